//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/paragraph"
	"postern/internal/policy"
	"postern/internal/preflight"
)

// copiedKeys are keys that the copy has, and nobody else: one of a user of each door.
// The host's own are not read.
type copiedKeys struct {
	machine *automaton.Machine // with these keys
	ring    automaton.Keyring
	tokens  map[int]*automaton.Token // by the number of the door
	none    string                   // why no key can be tried; "" if they can
}

func newKeys(m *automaton.Machine, b firewall.Backend) *copiedKeys {
	with := *m
	k := &copiedKeys{machine: &with, tokens: map[int]*automaton.Token{},
		ring: automaton.Keyring{Site: key.NewSite(), Devices: map[string]automaton.DeviceKey{}}}
	with.Keys = func() (automaton.Keyring, error) { return k.ring, nil }
	if _, able := b.(firewall.KeyVerifier); !able || bpf.Probe() != nil {
		k.none = "keys are tried where BPF verifies them"
		return k
	}
	for i := range m.Tokens {
		t := &m.Tokens[i]
		if k.tokens[t.Door] == nil && (t.User.Until.IsZero() || time.Now().Before(t.User.Until)) {
			k.tokens[t.Door] = t
			k.ring.Devices[t.Name()] = automaton.DeviceKey{ID: key.NewDevice(), Secret: key.NewSecret()}
		}
	}
	return k
}

// credential returns what opens a door by a key.
func (k *copiedKeys) credential(d *automaton.Door, t *automaton.Token) key.Credential {
	device := k.ring.Devices[t.Name()]
	return key.Credential{Site: k.ring.Site, Device: device.ID, Door: key.DoorID(d.Name), Secret: device.Secret}
}

// A means is how a door is opened: by its knocks, or by a key.
type means struct {
	done    string         // by who has done it, at an address
	from    []netip.Prefix // who may; empty: everybody
	packets func(t *target, from netip.Addr) []*packet.Packet
}

// means returns how a door is opened, and why not in another way, if it might be.
func (k *copiedKeys) means(m *automaton.Machine, door int) (all []means, untried string) {
	d := &m.Doors[door]
	if len(d.Knock.Sequence) > 0 {
		all = append(all, means{"knocked at", d.From, func(t *target, from netip.Addr) (knocks []*packet.Packet) {
			for _, p := range d.Knock.Sequence {
				knocks = append(knocks, t.opening(from, p))
			}
			return knocks
		}})
	}
	token := k.tokens[door]
	switch {
	case len(d.Knock.Users) == 0:
		return all, ""
	case k.none != "":
		return all, k.none
	case token == nil:
		return all, "the time of each user is over"
	}
	may := d.From
	if len(token.User.Networks) > 0 {
		may = token.User.Networks
	}
	c := k.credential(d, token)
	return append(all, means{"sent a token to", may, func(t *target, from netip.Addr) []*packet.Packet {
		p := t.opening(from, m.Policy.Keys.Port)
		lane := key.Lane4
		if t.to.Is6() {
			lane = key.Lane6
		}
		// A kernel that has just been loaded accepts the latest times only.
		token := c.Token(time.Now().Add(key.DefaultWindow.Ahead), from, lane)
		p.Payload = token[:]
		return []*packet.Packet{p}
	}}), ""
}

// mostDoors bounds how many doors are tried.
const mostDoors = 100

// doors opens each door by all means, over each family.
func (c *replica) doors(m *automaton.Machine, targets []*target, keys *copiedKeys) (Entry, error) {
	e := Entry{Topic: preflight.Topic{Name: "doors"}, Seen: "each opens"}
	tried := 0
	var untried []string
	for i := range m.Doors[:min(len(m.Doors), mostDoors)] {
		d := &m.Doors[i]
		ways, why := keys.means(m, i)
		for j, way := range ways {
			once := false
			for _, is4 := range []bool{true, false} {
				at := slices.IndexFunc(targets, func(t *target) bool { return t.to.Is4() == is4 && reachedAt(d, t.to) })
				if at < 0 { // one address of a family is enough
					continue
				}
				found, ok, err := targets[at].open(m, d, way, 2+2*i+j)
				if err != nil {
					return e, err
				}
				e.Findings = append(e.Findings, found...)
				once = once || ok
			}
			if once {
				tried++
			} else if why == "" {
				why = "no address of the copy is for its senders"
			}
		}
		if why != "" {
			untried = append(untried, fmt.Sprintf("%s (%s)", d.Name, why))
		}
	}
	switch {
	case len(e.Findings) > 0:
		e.Seen = "not all open"
	case tried == 0:
		e.Seen = "none could be tried"
	case len(untried) > 0:
		e.Seen = "each that could be tried opens"
	case len(m.Doors) > mostDoors:
		e.Seen = fmt.Sprintf("the first %d open", mostDoors)
	}
	if len(untried) > 0 {
		e.Findings = append(e.Findings, preflight.Finding{
			Kind: ScanIncomplete, Severity: preflight.Note,
			Message: "not tried in all ways that open it: door " + paragraph.List(untried),
			Hints:   []string{"connect through it from outside, before you rely on it"},
		})
	}
	return e, nil
}

func reachedAt(d *automaton.Door, at netip.Addr) bool {
	return d.HasFamilyOf(at) && (!d.Address.IsValid() || d.Address == at)
}

// open opens a door, asks for its services, and reports whether there is an address
// from which it could.
func (t *target) open(m *automaton.Machine, d *automaton.Door, by means, number int) (found []preflight.Finding, tried bool, err error) {
	from, ok := t.sender(by.from, number)
	if !ok || len(d.From) > 0 && !slices.ContainsFunc(d.From, func(n netip.Prefix) bool { return n.Contains(from) }) {
		return nil, false, nil
	}
	for _, i := range d.Services {
		s := &m.Services[i]
		if err := t.send(by.packets(t, from)...); err != nil {
			return nil, false, err
		}
		if err := t.Settle(); err != nil {
			return nil, false, err
		}
		in, got, err := t.reaches(s, t.opening(from, s.Port))
		if err != nil {
			return nil, false, err
		}
		if in {
			continue
		}
		found = append(found, preflight.Finding{
			Kind: DoorStaysShut, Severity: preflight.Error,
			Message: fmt.Sprintf("door %s does not open %s to %s, who has %s %s: %s", d.Name, s.Port, from, by.done, t.to, got),
			Hints:   []string{"another rule set drops it, as a warning says, or sends it elsewhere: see hooks"},
			Where:   preflight.Place{Interface: t.link.name},
		})
	}
	return found, true, nil
}

// sender returns an address within one of some networks, if there are any, that has sent
// nothing yet. The numbers of senders differ.
func (t *target) sender(networks []netip.Prefix, number int) (netip.Addr, bool) {
	if len(networks) == 0 {
		return t.stranger(number), true
	}
	for _, n := range networks {
		a := n.Masked().Addr()
		for range number {
			if next := a.Next(); n.Contains(next) {
				a = next
			}
		}
		if a.Is4() != t.to.Is4() || slices.Contains(t.link.addresses, a) {
			continue
		}
		if t.route(t.link, a) == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// received reports whether a datagram has come to a socket, if that has just been asked.
func (t *target) received(p *packet.Packet) (bool, error) {
	all, err := t.in.Drain()
	return slices.ContainsFunc(all, func(c lab.Captured) bool {
		return c.UDP != nil && c.Src == p.Src && c.UDP.SrcPort == p.UDP.SrcPort
	}), err
}

// reaches asks for a service, and reports whether its program, or the host that
// it is forwarded to, has got the packet.
func (t *target) reaches(s *automaton.Service, p *packet.Packet) (bool, answer, error) {
	answers, err := t.ask(p)
	if err != nil {
		return false, "", err
	}
	if !s.Forward.IsValid() {
		if s.Port.Protocol == policy.TCP {
			return answers[0] == synAck, answers[0], nil
		}
		in, err := t.received(p)
		return in, answers[0], err
	}
	for i := range t.links {
		if t.links[i].wire == nil || &t.links[i] == t.link {
			continue
		}
		sent, err := t.links[i].wire.Drain()
		if err != nil {
			return false, "", err
		}
		for _, c := range sent {
			if c.Dst == s.Forward.Addr() && there(c.Packet) == s.Forward.Port() {
				return true, "", nil
			}
		}
	}
	return false, answers[0], nil
}
