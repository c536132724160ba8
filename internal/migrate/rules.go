package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/internal/lazyregexp"
	"postern/internal/policy"
)

// A side is one family's rules, with what was found in them.
type side struct {
	*walker
	scope
	root  *machine // where the first door is
	doors []*foundDoor
}

// draft makes a draft of the policy of the rules that were loaded.
func (ld *loader) draft() (*draft, error) {
	var sides []*side
	var quiet []*side // without doors
	for _, set := range []*ruleset{ld.v4, ld.v6} {
		w, err := newWalker(set)
		if err != nil {
			return nil, err
		}
		if w == nil {
			continue
		}
		s := &side{walker: w, scope: w.scope()}
		if s.doors, err = ld.findDoors(w, s.scope); err != nil {
			return nil, err
		}
		if len(s.doors) == 0 {
			quiet = append(quiet, s)
			continue
		}
		if s.root, err = w.explore(s.scope, s.doors[0].places[0]); err != nil {
			return nil, err
		}
		sides = append(sides, s)
	}
	d := newDraft(policy.Closed, "Imported from iptables rules.")
	if len(sides) == 0 {
		for _, s := range quiet {
			ld.openAnyway(s)
			ld.account(s.walker)
		}
		return d, nil
	}
	if len(sides)+len(quiet) == 1 {
		family, other := families(sides[0].set)
		d.head = append(d.head, fmt.Sprintf("They were for %s alone; a policy holds for %s as well.", family, other))
	}
	for i, s := range sides {
		ld.posture(d, s, i == 0)
	}
	for _, s := range sides {
		ld.addDoors(d, s)
	}
	marks(d, sides)
	if len(sides) == 2 {
		mergeDoors(d)
		d.allow = mergeAllowed(ld.findAllowed(sides[0]), ld.findAllowed(sides[1]))
	} else {
		d.allow = ld.findAllowed(sides[0])
	}
	for _, s := range sides {
		s.work = maxWork // once more: what is short now is only the list
		ld.compare(d, s)
		ld.openAnyway(s)
		ld.account(s.walker)
	}
	for _, s := range quiet {
		ld.withoutDoors(s.walker)
	}
	return d, nil
}

func families(set *ruleset) (family, other string) {
	if set.v6 {
		return "IPv6", "IPv4"
	}
	return "IPv4", "IPv6"
}

// posture reads off what becomes of everything else.
func (ld *loader) posture(d *draft, s *side, first bool) {
	posture, refused := policy.Closed, &s.root.out[0][s.others]
	if refused.accepts {
		posture, refused = policy.Guard, s.hidden()
	}
	d.Posture = posture
	cover, exact := coverOf(refused.answer, posture == policy.Guard && !s.hides(policy.TCP))
	if !exact {
		ld.list.add(refused.line(), "a policy answers with a RST, with port unreachable, or not at all: this one says \"cover: %s\"", cover)
	}
	switch {
	case first:
		d.Posture, d.Cover = posture, cover
	case d.Posture != posture || d.Cover != cover:
		ld.list.add(refused.line(), "the rules for IPv4 and IPv6 differ in what they do with all else; the policy has one posture and cover for both")
	}
	ld.answers(d, s)
	ld.logs(d, s, first)
	for _, c := range s.set.order {
		for _, r := range c.rules {
			for _, t := range r.tests {
				switch {
				case t.kind != onRecent || t.recent.bits == 0:
				case s.set.v6:
					d.Source.IPv6 = min(d.Source.IPv6, t.recent.bits)
				default:
					d.Source.IPv4 = min(d.Source.IPv4, t.recent.bits)
				}
			}
		}
	}
}

// coverOf returns the cover that answers TCP, or UDP, like that; the default of
// guard if it is one of them.
func coverOf(answer policy.Answer, udp bool) (cover policy.Cover, exact bool) {
	protocol := policy.TCP
	if udp {
		protocol = policy.UDP
	}
	covers := slices.DeleteFunc(policy.Covers(), func(c policy.Cover) bool { return c.Answer(protocol) != answer })
	switch usual := policy.Guard.DefaultCover(); {
	case len(covers) == 0:
		return policy.CoverUnreachable, false
	case slices.Contains(covers, usual):
		return usual, true
	}
	return covers[0], true
}

// hides reports whether a service of the protocol is behind a door.
func (s *side) hides(protocol policy.Protocol) bool {
	return slices.ContainsFunc(s.doors, func(f *foundDoor) bool {
		return slices.ContainsFunc(f.Services, func(p policy.Port) bool { return p.Protocol == protocol })
	})
}

// hidden is what becomes of a packet to a service behind a door, without a knock:
// of TCP if there is one.
func (s *side) hidden() *outcome {
	for _, f := range s.doors {
		for i, p := range f.Services {
			if p.Protocol == policy.TCP || !s.hides(policy.TCP) {
				return &s.root.out[0][f.opening.opens[i]]
			}
		}
	}
	return &s.root.out[0][s.doors[0].opening.opens[0]]
}

// answers remarks on the rules that refuse otherwise than the cover does.
func (ld *loader) answers(d *draft, s *side) {
	for state := range s.root.lists {
		for i, port := range s.ports {
			o := &s.root.out[state][i]
			if o.accepts || port.Protocol == policy.ICMP || o.answer == d.Cover.Answer(port.Protocol) ||
				o.answer == policy.AnswerOther && d.Cover == policy.CoverUnreachable {
				continue
			}
			ld.list.add(o.line(), "this refuses in another way than the rest, by which a knock can show; the policy has one way for all, \"cover: %s\"", d.Cover)
		}
	}
}

// ours are the log prefixes that Postern writes as well.
var ours = lazyregexp.New(`^(In knock \d+: ?|Knock accepted!: ?([A-Za-z0-9_-]+ ?)?)$`)

// logs reads off where the lines about knocks go.
func (ld *loader) logs(d *draft, s *side, first bool) {
	if first {
		d.Log.Target = policy.LogNone
	}
	always, atFirst := map[*rule]bool{}, map[*rule]bool{}
	for i := range s.ports {
		for _, r := range s.root.out[0][i].logs {
			atFirst[r] = true
			always[r] = always[r] || i >= s.others
		}
	}
	for state := range s.root.lists {
		for i := range s.ports {
			for _, r := range s.root.out[state][i].logs {
				switch prefix := r.options["--log-prefix"] + r.options["--nflog-prefix"]; {
				case always[r]:
					ld.list.add(r.line, "a policy logs knocks, and not what is refused")
					continue
				case atFirst[r]:
					ld.list.add(r.line, "a policy does not log first knocks, or any scanner could fill the log")
					continue
				case prefix != "" && !ours().MatchString(prefix):
					ld.list.add(r.line, "the lines that a policy logs have words of their own")
				}
				progress := d.Log.Progress || !s.opens(state)
				if r.target == "LOG" {
					d.Log = policy.Log{Target: policy.LogKernel, Progress: progress}
				} else if d.Log.Target != policy.LogKernel {
					group, _ := strconv.ParseUint(r.options["--nflog-group"], 10, 16)
					d.Log = policy.Log{Target: policy.LogNFLOG, Group: uint16(group), Progress: progress}
				}
			}
		}
	}
}

// opens reports whether the rules accept something in a state that they refuse a sender
// without a knock.
func (s *side) opens(state int) bool {
	for i := range s.ports {
		if s.root.out[state][i].accepts && !s.root.out[0][i].accepts {
			return true
		}
	}
	return false
}

// addDoors puts a side's doors into the draft, with the places they are for.
func (ld *loader) addDoors(d *draft, s *side) {
	for _, f := range s.doors {
		dr := f.door
		dr.v6 = s.set.v6
		d.doors = append(d.doors, &dr)
		if f.places[0].named() == 0 {
			continue
		}
		for _, at := range f.places {
			if at.iface != "" && !slices.Contains(d.Interfaces, at.iface) {
				d.Interfaces, d.ifaceLine = append(d.Interfaces, at.iface), dr.line
			}
			if at.from.IsValid() && !slices.ContainsFunc(dr.From, func(p netip.Prefix) bool { return holdsNetwork(p, at.from) }) {
				dr.From = slices.DeleteFunc(dr.From, func(p netip.Prefix) bool { return holdsNetwork(at.from, p) })
				dr.From = append(dr.From, at.from)
			}
			switch {
			case !at.to.IsValid():
			case !at.to.IsSingleIP():
				dr.remarks.add(dr.line, "the door is for the network %s; a policy's door is for one address of this host, or for all", at.to)
			case dr.Address.IsValid() && dr.Address != at.to.Addr():
				dr.remarks.add(dr.line, "the door is for %s as well; a policy's door has one address", at.to.Addr())
			default:
				dr.Address = at.to.Addr()
			}
		}
		// In guard a door at one address leaves its services alone at the others.
		if dr.Address.IsValid() && d.Posture == policy.Guard && s.refuses(place{}, f.opening.opens) {
			dr.remarks.add(dr.line, "the rules take knocks at %s only, and refuse the service at other addresses as well; the policy takes knocks at all, "+
				"because a door for one address leaves the service open at the others", dr.Address)
			dr.Address = netip.Addr{}
		}
	}
	if len(d.Interfaces) == 0 {
		return
	}
	wild := slices.IndexFunc(d.Interfaces, func(name string) bool { return strings.HasSuffix(name, "+") })
	hidden := []int{s.others}
	for _, f := range s.doors {
		hidden = append(hidden, f.opening.opens...)
	}
	switch line := s.doors[0].line; {
	case wild >= 0:
		ld.list.add(line, "the rules take knocks on every interface whose name fits %s; the policy takes knocks on all, "+
			"because one that names interfaces names each, and leaves the others open", d.Interfaces[wild])
	case s.refuses(place{}, hidden):
		ld.list.add(line, "the rules take knocks on %s only, and shut other interfaces as well; the policy takes knocks on all, "+
			"because one that names interfaces leaves the others open", d.Interfaces)
	default:
		return
	}
	d.Interfaces = nil
}

// refuses reports whether one of these ports, by index, is refused at a place.
func (s *side) refuses(at place, ports []int) bool {
	return slices.ContainsFunc(ports, func(i int) bool { return !s.send(probe{s.ports[i], at}, listed{}).accepts })
}

// The networks that are everyone in one family.
var (
	everyone4 = netip.MustParsePrefix("0.0.0.0/0")
	everyone6 = netip.MustParsePrefix("::/0")
)

// mergeDoors makes one door of two that differ in nothing but the family, and
// leaves the others to theirs.
func mergeDoors(d *draft) {
	var doors []*door
	both := map[*door]bool{}
	for _, dr := range d.doors {
		i := slices.IndexFunc(doors, func(o *door) bool {
			return sameWay(o, dr) && o.OpenFor == dr.OpenFor && o.Admit == dr.Admit && o.Forfeit == dr.Forfeit && o.Forward == dr.Forward &&
				o.Knock.StepTimeout == dr.Knock.StepTimeout && o.Knock.Retransmits == dr.Knock.Retransmits && o.Address == dr.Address &&
				(len(o.From) == 0) == (len(dr.From) == 0)
		})
		if i < 0 {
			doors = append(doors, dr)
			continue
		}
		doors[i].From = append(doors[i].From, dr.From...)
		doors[i].remarks.join(&dr.remarks)
		both[doors[i]] = true
	}
	d.doors = doors
	for _, dr := range doors {
		switch {
		case both[dr], len(dr.From) > 0, dr.Address.IsValid(), dr.Forward.IsValid(): // which say the family
		case dr.v6:
			dr.From = []netip.Prefix{everyone6}
		default:
			dr.From = []netip.Prefix{everyone4}
		}
	}
}

// mergeAllowed joins what is allowed over IPv4 and over IPv6.
func mergeAllowed(v4, v6 []allowed) []allowed {
	var all []allowed
	one := func(these, others []allowed, everyone netip.Prefix) {
		for _, a := range these {
			if !a.From.IsValid() && !slices.ContainsFunc(others, a.same) {
				a.From = everyone
			}
			if !slices.ContainsFunc(all, a.same) {
				all = append(all, a)
			}
		}
	}
	one(v4, v6, everyone4)
	one(v6, v4, everyone6)
	return all
}
