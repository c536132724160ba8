package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"postern/internal/policy"
)

// A difference is what one line of the rules does and the policy does not. The
// reason has a %s for what it is about.
type difference struct {
	line int
	why  string
}

// differences gathers them, each with all that it is about.
type differences struct {
	order []difference
	about map[difference][]string
}

func (d *differences) add(at difference, what string) {
	if d.about == nil {
		d.about = map[difference][]string{}
	}
	if d.about[at] == nil {
		d.order = append(d.order, at)
	}
	if !slices.Contains(d.about[at], what) {
		d.about[at] = append(d.about[at], what)
	}
}

// list makes a remark of each: "a, b, c and more".
func (d *differences) list(list *remarks) {
	const most = 3
	for _, at := range d.order {
		what := d.about[at]
		text := strings.Join(what[:min(most, len(what))], ", ")
		if len(what) > most {
			text += " and more"
		}
		list.add(at.line, "%s", strings.Replace(at.why, "%s", text, 1))
	}
}

// compare remarks on where the policy does otherwise than the rules: before any
// knock, then at the doors.
func (ld *loader) compare(d *draft, s *side) {
	ld.withoutKnocks(d, s)
	ld.withKnocks(d, s)
	if s.work < 0 {
		ld.list.add(s.doors[0].line, "the rules are too many to try every door from everywhere that they name: "+
			"see for yourself whom they keep out, or cut out those that have nothing to do with knocks and import the rest")
	}
}

// withoutKnocks sends a packet to every port, from every place.
func (ld *loader) withoutKnocks(d *draft, s *side) {
	var differs differences
	for _, at := range s.all {
		for i, port := range s.ports {
			p := probe{port, at}
			out := s.send(p, listed{})
			if s.work < 0 {
				return
			}
			allows := d.letsIn(p, s.set.v6) || !d.filters(at)
			line, why := out.line(), ""
			switch {
			case out.accepts && out.forward.IsValid():
				line, why = out.sentBy.line, "it forwards %s to everyone, without a knock: keep it in the other firewall"
			case out.accepts && !allows && (out.by == nil || !out.by.explained):
				why = "it lets in %s without a knock, and no entry of allow can say for whom"
			case !out.accepts && allows && line > 0 && d.Posture == policy.Closed:
				why = "it refuses some whom the policy lets in (%s): a policy has no list of whom to refuse"
			case !out.accepts && allows && line > 0 && port.Protocol != policy.ICMP:
				why = "it refuses %s, and posture guard leaves all but the doors alone: keep it in the other firewall"
			case at.named() > 0 && out.accepts:
				continue
			}
			if out.explain(); why != "" {
				differs.add(difference{line, why}, s.portName(i))
			}
		}
	}
	differs.list(ld.list)
}

// withKnocks knocks at every door of the draft, from every place.
func (ld *loader) withKnocks(d *draft, s *side) {
	var differs differences
	said := map[difference][]place{}
	for _, dr := range d.doors {
		home := place{}
		if i := slices.IndexFunc(s.doors, func(f *foundDoor) bool { return sameWay(&f.door, dr) }); i >= 0 {
			home = s.doors[i].places[0]
		}
		for _, at := range s.all {
			got := s.knock(dr, at)
			if s.work < 0 {
				return
			}
			policyOpens := d.opens(dr, at, s.set.v6)
			for i, service := range dr.Services {
				p := probe{service, at}
				if !d.filters(at) || d.letsIn(p, s.set.v6) || s.send(p, listed{}).accepts {
					continue // without a knock, as we have seen
				}
				elsewhere := dr.Forward
				if !elsewhere.IsValid() {
					elsewhere = netip.AddrPortFrom(at.to.Addr(), service.Number)
				}
				why := ""
				switch open := got.services[i].accepts; {
				case policyOpens && !open:
					why = "it shuts the door " + dr.label() + " to what comes %s, and the policy opens it; a policy has no list of whom to refuse"
				case !policyOpens && open:
					why = "it opens the door " + dr.label() + " to what comes %s as well, and the policy does not"
				case policyOpens && got.services[i].forward != elsewhere && (got.services[i].forward.IsValid() || dr.Forward.IsValid()):
					why = "what comes %s is not sent on to where the door " + dr.label() + " of the policy leads"
				default:
					continue
				}
				// Where a wider place is listed, what is in it need not be.
				what := difference{s.deciding(dr, home, at, got), why}
				if !slices.ContainsFunc(said[what], at.within) {
					said[what] = append(said[what], at)
					differs.add(what, at.String())
				}
			}
		}
	}
	differs.list(ld.list)
}

// sameWay reports whether a door is one that was found, whatever it is limited to.
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

// A knocked is what comes of one knocking at a door.
type knocked struct {
	services []outcome
	by       *outcome // of the first service that stays shut, or else of the first
}

// knock sends all knocks from one place, and then a connection to each service.
func (s *side) knock(dr *door, at place) *knocked {
	k := &knocked{}
	var l listed
	s.packet = 0
	send := func(port policy.Port) outcome {
		s.packet++
		return s.send(probe{port, at}, l)
	}
	for _, port := range dr.Knock.Sequence {
		l = send(port).listed
	}
	for _, port := range dr.Services {
		k.services = append(k.services, send(port))
	}
	i := slices.IndexFunc(k.services, func(o outcome) bool { return !o.accepts })
	k.by = &k.services[max(i, 0)]
	return k
}

// deciding returns the line that makes a knocking end otherwise than the one at
// the door's home, where it was found.
func (s *side) deciding(dr *door, home, at place, got *knocked) int {
	if home != at {
		if r := parting(s.follow(dr, home), s.follow(dr, at)); r != nil {
			r.explained = true
			return r.line
		}
	}
	got.by.explain()
	return got.by.line()
}

// follow knocks, and returns the way of every packet.
func (s *side) follow(dr *door, at place) []step {
	s.trail = &[]step{}
	defer func() { s.trail = nil }()
	s.knock(dr, at)
	return *s.trail
}

// parting is the rule that two ways part at for good: where one passes and the
// other does not, but for rules after which both go on alike.
func parting(a, b []step) *rule {
	i, j := 0, 0
	together := func() bool {
		return i < len(a) && j < len(b) && a[i].rule == b[j].rule && a[i].packet == b[j].packet
	}
	for together() {
		if a[i].passed == b[j].passed && a[i].listed == b[j].listed {
			i, j = i+1, j+1
			continue
		}
		from := a[i].rule
		if i, j = past(a, i), past(b, j); !together() || a[i-1].listed != b[j-1].listed {
			return from
		}
	}
	return nil
}

// past returns where a packet goes on after a rule and all that it led to.
func past(trail []step, i int) int {
	at := trail[i]
	for i++; i < len(trail) && trail[i].packet == at.packet && trail[i].depth > at.depth; i++ {
	}
	return i
}
