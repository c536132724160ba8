//go:build linux

package labtest

import (
	"net/netip"
	"time"

	"postern/internal/automaton"
	"postern/internal/key"
	"postern/internal/packet"
	"postern/internal/policy"
)

// Keys draws keys for all devices of a machine, which has them from then on.
func Keys(m *automaton.Machine) automaton.Keyring {
	ring := automaton.Keyring{Site: key.NewSite(), Devices: map[string]automaton.DeviceKey{}}
	for i := range m.Tokens {
		ring.Devices[m.Tokens[i].Name()] = automaton.DeviceKey{ID: key.NewDevice(), Secret: key.NewSecret()}
	}
	m.Keys = func() (automaton.Keyring, error) { return ring, nil }
	return ring
}

// Credential returns what a device, as in "alice/laptop", opens a door with.
func Credential(ring automaton.Keyring, device, door string) key.Credential {
	k := ring.Devices[device]
	return key.Credential{Site: ring.Site, Device: k.ID, Door: key.DoorID(door), Secret: k.Secret}
}

// Times are times for the tokens of one host. Those of the first seconds after rules were
// loaded are not accepted, as they may have been before: so tokens are made later than they
// are.
type Times struct{ last time.Time }

// NewTimes waits until the first time counts, if rules were loaded just now.
func NewTimes() *Times {
	t := &Times{time.Now().Add(key.DefaultWindow.Ahead)}
	time.Sleep(200 * time.Millisecond)
	return t
}

// Next returns the time of the next token.
func (t *Times) Next() time.Time {
	t.last = t.last.Add(time.Millisecond)
	return t.last
}

// TokenPort is where tokens arrive in tests.
var TokenPort = UDP(40123)

// Envelopes are the ports by which a packet can carry a token.
var Envelopes = []policy.Port{TokenPort, Echo, TCP(TokenPort.Number)}

// Carry returns a packet to the gateway with a payload.
func (s *Scene) Carry(from netip.Addr, by policy.Port, payload []byte) *packet.Packet {
	p := s.ToGateway(from, by)
	p.Payload = payload
	return p
}
