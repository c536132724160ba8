package knocker

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"postern/internal/key"
)

// A Key opens a door by one packet with a token in it, in place of knocks.
type Key struct {
	key.Credential
	Port uint16 // where the server expects tokens: of UDP, and of TCP
}

// An Envelope is a kind of packet that a token goes in. Networks drop some kinds,
// and systems do not let every user send all of them.
type Envelope int

// The envelopes, in the order in which they are tried.
const (
	Datagram Envelope = iota // of UDP
	Echo                     // the payload of an echo request
	SYNData                  // the data in a SYN: Linux only
	envelopes
)

var envelopeNames = [envelopes]string{"UDP", "ping", "TCP"}

func (e Envelope) String() string { return envelopeNames[e] }

// tokenGap is the longest time from a token to the connection: for networks on which
// one packet overtakes another. Nothing is gained by more, and the door may be open
// for less.
const tokenGap = 50 * time.Millisecond

// SendToken sends one token to an address, in the first envelope that this user of
// this system can send, and returns which.
func SendToken(to netip.Addr, k *Key) (Envelope, error) { return k.send(to, Datagram, 0) }

// send sends the token of a round, counted from 0. Each round has another envelope,
// beginning with first, or the next one that can be sent. If none can, the error is
// the datagram's.
//
// When all envelopes have failed, the address may be translated on the way, so that
// the server sees another one: the next rounds are not bound to it. (Whoever holds
// back packets to bring that about is on the way, and could use the client's own
// address as well.)
func (k *Key) send(to netip.Addr, first Envelope, round int) (Envelope, error) {
	// It sends nothing, but finds out from which address packets go there.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, k.Port)))
	if err != nil {
		return 0, fmt.Errorf("sending a token to %s: %w", to, err)
	}
	defer conn.Close()
	own := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	bound := boundTo(own, to)
	if round/int(envelopes)%2 == 1 {
		bound = netip.Addr{}
	}
	lane := key.Lane4
	if to.Is6() {
		lane = key.Lane6
	}
	for i := range envelopes {
		e := (first + Envelope(round) + i) % envelopes
		token := k.Token(nextTime(k.Device, time.Now()), bound, lane)
		var failed error
		switch e {
		case Datagram:
			_, failed = conn.Write(token[:])
		case Echo:
			failed = sendEcho(to, token[:])
		case SYNData:
			failed = sendSYNData(to, k.Port, token[:])
		}
		if failed == nil {
			return e, nil
		}
		if e == Datagram {
			err = failed
		}
	}
	return 0, fmt.Errorf("sending a token to %s: %w", to, err)
}

// The addresses that are global by their form, but are translated on the way, or on
// no way at all.
var (
	local4 = []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // of providers' NAT (RFC 6598)
		netip.MustParsePrefix("192.0.0.0/24"),  // of a host that has IPv4 over NAT64 only (RFC 7335)
		netip.MustParsePrefix("198.18.0.0/15"), // of benchmarks (RFC 2544)
		netip.MustParsePrefix("240.0.0.0/4"),
	}
	global6 = netip.MustParsePrefix("2000::/3")
	nat64   = []netip.Prefix{
		netip.MustParsePrefix("64:ff9b::/96"),   // RFC 6052
		netip.MustParsePrefix("64:ff9b:1::/48"), // RFC 8215
	}
)

// boundTo returns the address that a token is bound to, of packets that go from one
// address to another: own, if the server sees that, and otherwise none.
func boundTo(own, to netip.Addr) netip.Addr {
	within := func(a netip.Addr, all []netip.Prefix) bool {
		for _, p := range all {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	switch {
	case own.Is4() && own.IsGlobalUnicast() && !own.IsPrivate() && !within(own, local4),
		own.Is6() && global6.Contains(own.WithZone("")) && !within(to, nat64):
		return own
	}
	return netip.Addr{}
}
