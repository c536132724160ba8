package migrate

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/internal/policy"
)

// A side is one family's rules, followed.
type side struct {
	*walker
	mentions
	root  *machine // where strangers are
	doors []*foundDoor
	at    map[*foundDoor][]place
}

// draft makes a draft of the policy of the rules that were loaded.
func (ld *loader) draft() (*draft, error) {
	var sides []*side
	var quiet []*walker // without doors
	for _, set := range []*ruleset{ld.v4, ld.v6} {
		w, err := newWalker(set)
		if err != nil {
			return nil, err
		}
		if w == nil {
			continue
		}
		s := &side{walker: w, mentions: w.mentions()}
		if s.doors, s.at, err = ld.doors(w, s.mentions); err != nil {
			return nil, err
		}
		if len(s.doors) == 0 {
			quiet = append(quiet, w)
			continue
		}
		if s.root, err = w.explore(s.mentions, s.at[s.doors[0]][0]); err != nil {
			return nil, err
		}
		sides = append(sides, s)
	}
	d := newDraft()
	d.head = []string{"Imported from iptables rules."}
	if len(sides) == 0 {
		for _, w := range quiet {
			ld.account(w)
		}
		return d, nil
	}
	if len(sides)+len(quiet) == 1 {
		family, other := "IPv4", "IPv6"
		if sides[0].set.v6 {
			family, other = other, family
		}
		d.head = append(d.head, fmt.Sprintf("They were for %s alone; a policy holds for %s as well.", family, other))
	}
	for i, s := range sides {
		ld.posture(d, s, i == 0)
	}
	for _, s := range sides {
		ld.addDoors(d, s)
	}
	if len(sides) == 2 {
		mergeFamilies(d)
	}
	var entries [2][]allowed
	for i, s := range sides {
		entries[i] = ld.allow(s)
	}
	d.allow = entries[0]
	if len(sides) == 2 {
		d.allow = bothFamilies(entries[0], entries[1])
	}
	for _, s := range sides {
		s.work = maxWork // once more: what is short now is only the list
		ld.compare(d, s)
		ld.account(s.walker)
	}
	for _, w := range quiet {
		ld.unheeded(w)
	}
	return d, nil
}

// posture reads off what becomes of everything else.
func (ld *loader) posture(d *draft, s *side, first bool) {
	out := &s.root.out[0][s.strays]
	posture := policy.Closed
	var refused *outcome
	if out.verdict == accepted {
		posture = policy.Guard
		refused = s.hidden()
	} else {
		refused = out
	}
	var cover policy.Cover
	switch refused.verdict {
	case reset:
		cover = policy.CoverReset
	case unreachable:
		cover = policy.CoverUnreachable
		if posture == policy.Guard && !s.hides(policy.TCP) {
			cover = policy.CoverReset // the same for UDP, and the default
		}
	case dropped:
		cover = policy.CoverDrop
	default:
		cover = policy.CoverUnreachable
		ld.left.add(lineOf(refused), "a policy answers with a RST, with port unreachable, or not at all: this one says \"cover: unreachable\"")
	}
	if !first {
		if d.posture != posture || d.cover != cover {
			ld.left.add(lineOf(refused), "the rules for IPv4 and IPv6 differ in what they do with all else; the policy has one posture and cover for both")
		}
	} else {
		d.posture, d.cover = posture, cover
	}
	ld.answers(d, s)
	ld.logs(d, s, first)
	for _, c := range s.set.order {
		for _, r := range c.rules {
			for _, t := range r.tests {
				if t.kind != onRecent || t.recent.bits == 0 {
					continue
				}
				if s.set.v6 {
					d.source.IPv6 = min(d.source.IPv6, t.recent.bits)
				} else {
					d.source.IPv4 = min(d.source.IPv4, t.recent.bits)
				}
			}
		}
	}
}

// hides tells whether a service of the protocol is behind a door.
func (s *side) hides(protocol policy.Protocol) bool {
	return slices.ContainsFunc(s.doors, func(f *foundDoor) bool {
		return slices.ContainsFunc(f.Services, func(p policy.Port) bool { return p.Protocol == protocol })
	})
}

// hidden is what becomes of a packet to a service behind a door, without a
// knock: of TCP if there is one.
func (s *side) hidden() *outcome {
	for _, f := range s.doors {
		for i, p := range f.Services {
			if p.Protocol == policy.TCP || !s.hides(policy.TCP) {
				return &s.root.out[0][f.opening.grants[i]]
			}
		}
	}
	return &s.root.out[0][s.doors[0].opening.grants[0]]
}

// answers lists the rules that refuse otherwise than the cover does.
func (ld *loader) answers(d *draft, s *side) {
	for state := range s.root.tags {
		for i, port := range s.ports {
			o := &s.root.out[state][i]
			same := o.verdict == accepted || port.Protocol == policy.ICMP
			switch d.cover {
			case policy.CoverDrop:
				same = same || o.verdict == dropped
			case policy.CoverReset:
				same = same || o.verdict == reset || port.Protocol == policy.UDP && o.verdict == unreachable
			case policy.CoverUnreachable:
				same = same || o.verdict == unreachable || o.verdict == refused
			}
			if !same {
				ld.left.add(lineOf(o), "this refuses in another way than the rest, by which a knock can show; the policy has one way for all, \"cover: %s\"", d.cover)
			}
		}
	}
}

// ours are the log prefixes that Postern writes as well.
var ours = regexp.MustCompile(`^(In knock \d+: ?|Knock accepted!: ?([A-Za-z0-9_-]+ ?)?)$`)

// logs reads off where the lines about knocks go.
func (ld *loader) logs(d *draft, s *side, first bool) {
	if first {
		d.log.Target = policy.LogNone
	}
	always := map[*rule]bool{}
	for _, i := range []int{s.strays, s.strays + 1} {
		for _, r := range s.root.out[0][i].logs {
			always[r] = true
		}
	}
	atFirst := map[*rule]bool{}
	for i := range s.ports {
		for _, r := range s.root.out[0][i].logs {
			atFirst[r] = true
		}
	}
	for state := range s.root.tags {
		for i := range s.ports {
			for _, r := range s.root.out[state][i].logs {
				switch prefix := r.options["--log-prefix"] + r.options["--nflog-prefix"]; {
				case always[r]:
					ld.left.add(r.line, "a policy logs knocks, and not what is refused")
					continue
				case atFirst[r]:
					ld.left.add(r.line, "a policy does not log first knocks, or any scanner could fill the log")
					continue
				case prefix != "" && !ours.MatchString(prefix):
					ld.left.add(r.line, "the lines that a policy logs have words of their own")
				}
				if r.target == "LOG" {
					d.log = policy.Log{Target: policy.LogKernel}
				} else if d.log.Target != policy.LogKernel {
					group, _ := strconv.ParseUint(r.options["--nflog-group"], 10, 16)
					d.log = policy.Log{Target: policy.LogNFLOG, Group: uint16(group)}
				}
			}
		}
	}
}

// addDoors puts a side's doors into the draft, with the places they are for.
func (ld *loader) addDoors(d *draft, s *side) {
	for _, f := range s.doors {
		dr := f.door
		dr.v6 = s.set.v6
		anywhere := s.at[f][0].named() == 0
		for _, at := range s.at[f] {
			if anywhere {
				break
			}
			if at.iface != "" && !slices.Contains(d.interfaces, at.iface) {
				d.interfaces, d.ifaceLine = append(d.interfaces, at.iface), dr.line
			}
			if at.from.IsValid() && !slices.ContainsFunc(dr.From, func(p netip.Prefix) bool { return holdsNetwork(p, at.from) }) {
				dr.From = slices.DeleteFunc(dr.From, func(p netip.Prefix) bool { return holdsNetwork(at.from, p) })
				dr.From = append(dr.From, at.from)
			}
			switch {
			case !at.to.IsValid():
			case !at.to.IsSingleIP():
				dr.left.add(dr.line, "the door is for the network %s; a policy's door is for one address of this host, or for all", at.to)
			case dr.Address.IsValid() && dr.Address != at.to.Addr():
				dr.left.add(dr.line, "the door is for %s as well; a policy's door has one address", at.to.Addr())
			default:
				dr.Address = at.to.Addr()
			}
		}
		d.doors = append(d.doors, &dr)
	}
	if len(d.interfaces) == 0 {
		return
	}
	if i := slices.IndexFunc(d.interfaces, func(name string) bool { return strings.HasSuffix(name, "+") }); i >= 0 {
		ld.left.add(s.doors[0].line, "the rules take knocks on every interface whose name fits %s; the policy takes knocks on all, "+
			"because one that names interfaces names each, and leaves the others open", d.interfaces[i])
		d.interfaces = nil
		return
	}
	// With interfaces named, a policy leaves the others open.
	elsewhere := s.send(probe{s.ports[s.strays], place{}}, tags{})
	if elsewhere.verdict != accepted {
		ld.left.add(s.doors[0].line, "the rules take knocks on %s only, and shut other interfaces as well; the policy takes knocks on all, "+
			"because one that names interfaces leaves the others open", d.interfaces)
		d.interfaces = nil
	}
}

// mergeFamilies makes one door of two that differ in nothing but the family, and
// leaves the others to theirs.
func mergeFamilies(d *draft) {
	var doors []*door
	both := map[*door]bool{}
	for _, dr := range d.doors {
		i := slices.IndexFunc(doors, func(o *door) bool {
			return slices.Equal(o.Knock.Sequence, dr.Knock.Sequence) && slices.Equal(o.Services, dr.Services) &&
				o.OpenFor == dr.OpenFor && o.Admit == dr.Admit && o.Forfeit == dr.Forfeit && o.Forward == dr.Forward &&
				o.Knock.StepTimeout == dr.Knock.StepTimeout && o.Knock.Retransmits == dr.Knock.Retransmits && o.Address == dr.Address &&
				(len(o.From) == 0) == (len(dr.From) == 0)
		})
		if i < 0 {
			doors = append(doors, dr)
			continue
		}
		doors[i].From = append(doors[i].From, dr.From...)
		both[doors[i]] = true
	}
	d.doors = doors
	for _, dr := range doors {
		switch {
		case both[dr], len(dr.From) > 0, dr.Address.IsValid(), dr.Forward.IsValid(): // which say the family
		case dr.v6:
			dr.From = []netip.Prefix{netip.MustParsePrefix("::/0")}
		default:
			dr.From = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		}
	}
}

// bothFamilies joins what is allowed over IPv4 and over IPv6.
func bothFamilies(v4, v6 []allowed) []allowed {
	same := func(a allowed) func(allowed) bool {
		return func(b allowed) bool { return a.service == b.service && a.from == b.from && a.iface == b.iface }
	}
	var all []allowed
	one := func(these, others []allowed, everyone string) {
		for _, a := range these {
			if !a.from.IsValid() && !slices.ContainsFunc(others, same(a)) {
				a.from = netip.MustParsePrefix(everyone)
			}
			if !slices.ContainsFunc(all, same(a)) {
				all = append(all, a)
			}
		}
	}
	one(v4, v6, "0.0.0.0/0")
	one(v6, v4, "::/0")
	return all
}
