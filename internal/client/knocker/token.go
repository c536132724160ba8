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
	Port   uint16 // where the server expects tokens: of UDP, and of TCP
	Closes bool   // its tokens close the door
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

// SendToken sends a token to an address, and returns in which envelope: that of the try,
// counted from 0, or the next one that this user of this system can send. Nobody sees
// whether it opens the door, so where it is bound to this host's address, one that is not
// follows it: the address may be translated on the way.
func SendToken(to netip.Addr, k *Key, try int) (Envelope, error) {
	s, err := k.sender(to)
	if err != nil {
		return 0, err
	}
	defer s.conn.Close()
	e, err := s.send(Envelope(try)%envelopes, s.own, false)
	if err == nil && s.own.IsValid() {
		e, err = s.send(e, netip.Addr{}, false)
	}
	return e, err
}

// A sender sends tokens to an address.
type sender struct {
	*Key
	to   netip.Addr
	conn *net.UDPConn // for tokens in datagrams
	own  netip.Addr   // the address that a token is bound to, as boundTo returns it
}

// sender returns a sender to an address.
func (k *Key) sender(to netip.Addr) (*sender, error) {
	// It sends nothing, but finds out from which address packets go there.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, k.Port)))
	if err != nil {
		return nil, tokenError(to, err)
	}
	own := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	return &sender{k, to, conn, boundTo(own, to)}, nil
}

func tokenError(to netip.Addr, err error) error {
	return fmt.Errorf("sending a token to %s: %w", to, err)
}

// A Passage is how a token goes to a server.
type Passage struct {
	Envelope
	// Unbound is this host's address if the token was not bound to it though it is
	// global. It is zero if the token was bound to it, or could not be.
	Unbound netip.Addr
}

// sendRound sends the token of a round, counted from 0, to an address, and returns how.
// Each round has another envelope, beginning with the one that is known to come through,
// or the next one that can be sent.
//
// This host's address may be translated on the way, so that the server sees another
// one. So every other round's token is not bound to it, beginning with the first if
// that is known. (Whoever holds back packets to bring that about is on the way, and
// could use the client's own address as well.) The envelopes are three, so that six
// rounds try each of them in both ways.
func (k *Key) sendRound(to netip.Addr, known Passage, round int) (p Passage, err error) {
	s, err := k.sender(to)
	if err != nil {
		return p, err
	}
	defer s.conn.Close()
	bound := s.own
	if s.own.IsValid() && (round%2 == 1) != (known.Unbound == s.own) {
		bound, p.Unbound = netip.Addr{}, s.own
	}
	p.Envelope, err = s.send((known.Envelope+Envelope(round))%envelopes, bound, round > 0)
	return p, err
}

// send sends a token in an envelope, or the next one that can be sent, and returns
// which. If none can, the error is the datagram's.
//
// If others of this opening have not come through, the last one of the lattice is sent again
// before it: that may be the only one that the server can know for some seconds, and have
// been lost.
func (s *sender) send(first Envelope, bound netip.Addr, again bool) (Envelope, error) {
	tokens := series{s.Device, s.Door, key.Lane4}
	if s.to.Is6() {
		tokens.lane = key.Lane6
	}
	encode := s.Token
	if s.Closes {
		encode = s.Closing
	}
	now := time.Now()
	point, known := lastPoint(tokens, now)
	token := encode(nextTime(tokens, bound.IsValid(), now), bound, tokens.lane)
	var err error
	for i := range envelopes {
		e := (first + i) % envelopes
		if known && again && !bound.IsValid() {
			s.sendIn(e, encode(point, bound, tokens.lane))
		}
		failed := s.sendIn(e, token)
		if failed == nil {
			return e, nil
		}
		if e == Datagram {
			err = failed
		}
	}
	return 0, tokenError(s.to, err)
}

// sendIn sends a token in an envelope.
func (s *sender) sendIn(e Envelope, token key.Token) error {
	switch e {
	case Echo:
		return sendEcho(s.to, token[:])
	case SYNData:
		return sendSYNData(s.to, s.Port, token[:])
	}
	_, err := s.conn.Write(token[:])
	if refused(err) { // the one before, and this one was not sent
		_, err = s.conn.Write(token[:])
	}
	return err
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
