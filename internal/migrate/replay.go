package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"postern/internal/policy"
)

// A replay is one knocking at a door, by the rules: all its knocks from one
// place, and then a connection to each service.
type replay struct {
	opened []bool           // by service
	sentTo []netip.AddrPort // by service, where it is sent on to
	by     *outcome         // of the first service that stays shut, or else of the first
}

// A step is a rule that a packet of a replay came to.
type step struct {
	rule   *rule
	packet int
	depth  int // of chains
	passed bool
	tags   tags // afterwards
}

// replay knocks at every door of the draft from every place that the rules
// mention, and lists where they do not open what the policy does, or open what it
// does not: at the line that makes the difference.
func (ld *loader) replay(d *draft, s *side) {
	differs := newDifferences(ld.left)
	said := map[difference][]place{}
	for _, dr := range d.doors {
		home := place{}
		if i := slices.IndexFunc(s.doors, func(f *foundDoor) bool { return sameWay(&f.door, dr) }); i >= 0 {
			home = s.at[s.doors[i]][0]
		}
		for _, at := range s.all {
			got := s.knock(dr, at)
			if s.work < 0 {
				return
			}
			policys := d.opens(dr, at, s.set.v6)
			for i, service := range dr.Services {
				p := probe{service, at}
				if !d.guards(at) || d.takes(p, s.set.v6) || s.send(p, tags{}).verdict == accepted {
					continue // without a knock, and compare has looked at it
				}
				elsewhere := dr.Forward
				if !elsewhere.IsValid() {
					elsewhere = netip.AddrPortFrom(at.to.Addr(), service.Number)
				}
				why := ""
				switch {
				case policys && !got.opened[i]:
					why = "it shuts the door " + dr.label() + " to what comes %s, and the policy opens it; a policy has no list of whom to refuse"
				case !policys && got.opened[i]:
					why = "it opens the door " + dr.label() + " to what comes %s as well, and the policy does not"
				case policys && got.sentTo[i] != elsewhere && (got.sentTo[i].IsValid() || dr.Forward.IsValid()):
					why = "what comes %s is not sent on to where the door " + dr.label() + " of the policy leads"
				default:
					continue
				}
				// Where a wider place is listed, what is in it need not be.
				what := difference{s.deciding(dr, home, at, got), why}
				if !slices.ContainsFunc(said[what], at.within) {
					said[what] = append(said[what], at)
					differs.add(what.line, why, at.String())
				}
			}
		}
	}
	differs.list()
}

// sameWay tells whether a door is one that was found, whatever it is limited to.
func sameWay(a, b *door) bool {
	return slices.Equal(a.Knock.Sequence, b.Knock.Sequence) && slices.Equal(a.Services, b.Services)
}

// label names a door that may have no name yet.
func (d *door) label() string {
	if d.Name != "" {
		return d.Name
	}
	return doorName(d.Services)
}

// knock replays a door at a place.
func (s *side) knock(dr *door, at place) *replay {
	k := &replay{}
	var t tags
	packet := 0
	send := func(port policy.Port) outcome {
		if s.trail != nil {
			s.packet = packet
			packet++
		}
		return s.send(probe{port, at}, t)
	}
	for _, port := range dr.Knock.Sequence {
		t = send(port).tags
	}
	for _, port := range dr.Services {
		out := send(port)
		open := out.verdict == accepted
		if k.by == nil || !open && !slices.Contains(k.opened, false) {
			k.by = &out
		}
		k.opened, k.sentTo = append(k.opened, open), append(k.sentTo, out.forward)
	}
	return k
}

// opens tells whether the policy opens a door to those who knock from a place.
func (d *draft) opens(dr *door, at place, v6 bool) bool {
	if dr.Address.IsValid() && dr.Address != at.to.Addr() {
		return false
	}
	if slices.ContainsFunc(dr.Knock.Sequence, func(p policy.Port) bool { return d.allows(probe{p, at}, v6) }) {
		return false // what is allowed is no knock
	}
	return len(dr.From) == 0 || slices.ContainsFunc(dr.From, func(p netip.Prefix) bool {
		return p.Addr().Is6() == v6 && (p.Bits() == 0 || holdsNetwork(p, at.from))
	})
}

// guards tells whether the policy is about what comes in at a place at all.
func (d *draft) guards(at place) bool {
	return len(d.interfaces) == 0 || slices.Contains(d.interfaces, at.iface)
}

// deciding gives the line that makes a replay end otherwise than the one at the
// door's home, where it was found.
func (s *side) deciding(dr *door, home, at place, got *replay) int {
	if home != at {
		a, b := s.follow(dr, home), s.follow(dr, at)
		if r := parting(a, b); r != nil {
			r.marked = true
			return r.line
		}
	}
	got.by.mark()
	return lineOf(got.by)
}

// follow replays a door, and keeps the way of every packet.
func (s *side) follow(dr *door, at place) []step {
	s.trail = &[]step{}
	defer func() { s.trail = nil }()
	s.knock(dr, at)
	return *s.trail
}

// parting is the rule that two replays part at for good: where one passes and the
// other does not, but for rules after which both go on alike.
func parting(a, b []step) *rule {
	i, j := 0, 0
	for i < len(a) && j < len(b) && a[i].rule == b[j].rule && a[i].packet == b[j].packet {
		if a[i].passed == b[j].passed && a[i].tags == b[j].tags {
			i, j = i+1, j+1
			continue
		}
		from := a[i].rule
		i, j = past(a, i), past(b, j)
		if i == len(a) || j == len(b) || a[i].rule != b[j].rule || a[i].packet != b[j].packet || a[i-1].tags != b[j-1].tags {
			return from
		}
	}
	return nil
}

// past gives where a packet goes on after a rule and all that it led to.
func past(trail []step, i int) int {
	at := trail[i]
	for i++; i < len(trail) && trail[i].packet == at.packet && trail[i].depth > at.depth; i++ {
	}
	return i
}

// String is how a list says where packets come from, as in "from 10.0.0.1".
func (a place) String() string {
	var all []string
	if a.from.IsValid() {
		all = append(all, "from "+network(a.from))
	}
	if a.iface != "" {
		all = append(all, "in at "+short(a.iface))
	}
	if a.to.IsValid() {
		all = append(all, "to the address "+network(a.to))
	}
	if all == nil {
		return "from elsewhere"
	}
	return strings.Join(all, " ")
}
