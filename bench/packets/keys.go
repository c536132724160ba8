//go:build linux

package main

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/key"
	"postern/internal/packet"
)

// keyPort is where tokens arrive, in every policy with keys.
const keyPort = 20123

// maxUsers is how many users the largest policy has. Each has three devices.
const maxUsers = 10000

// ring has the keys of all users, and laptop is the device that sends tokens.
var (
	ring   = newRing()
	laptop = key.Credential{
		Site: ring.Site, Device: ring.Devices["u0/d0"].ID, Secret: ring.Devices["u0/d0"].Secret, Door: key.DoorID("d0"),
	}
)

func newRing() automaton.Keyring {
	r := automaton.Keyring{Site: key.NewSite(), Devices: map[string]automaton.DeviceKey{}}
	for u := range maxUsers {
		for d := range 3 {
			r.Devices[fmt.Sprintf("u%d/d%d", u, d)] = automaton.DeviceKey{ID: key.NewDevice(), Secret: key.NewSecret()}
		}
	}
	return r
}

// keyed returns a policy of policyText's with users, whose keys open the first door as well.
func keyed(text string, users int) string {
	var names []string
	var b strings.Builder
	fmt.Fprintf(&b, "keys: {port: udp/%d}\nusers:\n", keyPort)
	for u := range users {
		names = append(names, fmt.Sprintf("u%d", u))
		fmt.Fprintf(&b, "  %s: {devices: [d0, d1, d2]}\n", names[u])
	}
	return strings.Replace(text, "3456]", "3456], key: ["+strings.Join(names, ", ")+"]", 1) + b.String()
}

// tokens are those that a stand was sent.
type tokens struct {
	last  time.Time // of the newest
	right key.Token // the newest that opened the door
}

// next returns a token that is newer than all before it. It is from as far ahead as may
// be: so it is accepted from the moment on when the rules are loaded.
func (t *tokens) next(bound netip.Addr) key.Token {
	at := time.Now().Add(key.DefaultWindow.Ahead)
	if !at.After(t.last) {
		at = t.last.Add(1)
	}
	t.last = at
	return laptop.Token(at, bound, key.Lane4)
}

// right returns a token that opens the door, each to another source: they are different
// people, and the kernel keeps what it deletes for a while, where the next of the same
// source finds it.
func right(s *stand) packet.Packet {
	s.tokens.right = s.tokens.next(netip.Addr{})
	p := s.withToken(s.tokens.right)
	s.sent++
	p.Src = forged(ipv4, s.sent)
	return p
}

// replayed returns the same token for some seconds. All but the first are refused.
func replayed(s *stand) packet.Packet {
	if time.Now().After(s.tokens.last) {
		return right(s)
	}
	return s.withToken(s.tokens.right)
}

// bound returns a token that is bound to another address than the sender's. That is known
// only when all of it was verified: no other junk costs more.
func bound(s *stand) packet.Packet {
	return s.withToken(s.tokens.next(netip.MustParseAddr("203.0.113.1")))
}

// junk returns what is as long as a token.
func junk(s *stand) packet.Packet {
	var t key.Token
	rand.Read(t[:])
	return s.withToken(t)
}

func (s *stand) withToken(t key.Token) packet.Packet {
	return packet.Packet{
		Src: source(ipv4), Dst: s.address(ipv4), UDP: &packet.UDP{SrcPort: anyPort(), DstPort: keyPort}, Payload: t[:],
	}
}
