package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/document"
	"postern/internal/policy"
)

// A foundDoor is an opening as a door.
type foundDoor struct {
	door
	opening opening
	places  []place // that it is for
}

// findDoors reads the doors off one rule set.
func (ld *loader) findDoors(w *walker, s scope) (found []*foundDoor, err error) {
	for n, at := range slices.Concat(s.places, s.rest) {
		x, err := w.explore(s, at)
		if err != nil && n < len(s.places) {
			return nil, err
		} else if err != nil {
			break
		}
		for _, o := range x.openings() {
			i := slices.IndexFunc(found, func(f *foundDoor) bool { return o.same(&f.opening) })
			why := o.impossible()
			switch {
			case i >= 0:
				if !slices.ContainsFunc(found[i].places, at.within) {
					found[i].places = append(found[i].places, at)
				}
			case why != "":
				ld.list.add(o.last(o.opens[0]).line(), "no door can be made of this: %s", why)
			default:
				found = append(found, ld.doorOf(o))
			}
		}
	}
	w.work = maxWork // for what comes after
	for _, f := range found {
		f.habits(found)
	}
	return found, nil
}

// impossible says why an opening cannot be a door; empty: it can.
func (o *opening) impossible() string {
	for _, i := range o.knocks {
		if i >= o.others {
			return fmt.Sprintf("any %s packet is a knock here, and a policy's knocks are ports", o.ports[i].Protocol)
		}
		// In guard a knock goes on untouched, as every other packet does.
		if out, other := &o.out[0][i], &o.out[0][o.others]; out.accepts && (!other.accepts || out.by != other.by) {
			return fmt.Sprintf("the knock %s is open to everyone; what a policy allows is no knock", o.ports[i])
		}
	}
	for _, i := range o.opens {
		switch {
		case i >= o.others:
			return "the knocks open every port, and a policy's door names its services"
		case o.last(i).forward.IsValid() && len(o.opens) > 1:
			return "the knocks open several services and forward one, and a policy's door that forwards has one service"
		}
	}
	return ""
}

// doorOf reads off an opening what a policy says of a door.
func (ld *loader) doorOf(o opening) *foundDoor {
	out := o.last(o.opens[0])
	f := &foundDoor{*newDoor(out.line(), ld.list), o, []place{o.at}}
	for _, i := range o.opens {
		f.Services = append(f.Services, o.ports[i])
		out := o.last(i)
		if out.explain(); out.forward.IsValid() && out.forward != netip.AddrPortFrom(o.at.to.Addr(), o.ports[i].Number) {
			f.Forward = out.forward
			f.Masquerade = o.masquerades(out.forward)
		}
	}
	for _, i := range o.knocks {
		f.Knock.Sequence = append(f.Knock.Sequence, o.ports[i])
	}
	f.times()
	return f
}

// masquerades reports whether the forwarded connection gets this host's address.
func (w *walker) masquerades(to netip.AddrPort) bool {
	c := w.set.chains[chainName{"nat", "POSTROUTING"}]
	if c == nil {
		return false
	}
	for _, r := range c.rules {
		if (r.target == "MASQUERADE" || r.target == "SNAT") && slices.ContainsFunc(r.tests, func(t test) bool {
			return t.kind == onAddress && !t.not && t.network == netip.PrefixFrom(to.Addr(), to.Addr().BitLen())
		}) {
			r.explained = true
			return true
		}
	}
	return false
}

// times reads how long the rules remember a knock.
func (f *foundDoor) times() {
	o := &f.opening
	states := o.states()
	last := len(states) - 1
	lineOf := func(out *outcome) int {
		if out.windowBy != nil {
			return out.windowBy.line
		}
		return out.line()
	}
	var steps []*outcome
	longest := time.Duration(0)
	for i := 1; i < len(o.knocks); i++ {
		out := &o.out[states[i]][o.knocks[i]]
		steps = append(steps, out)
		longest = max(longest, out.window)
	}
	const cautious = 30 * time.Second
	for _, out := range steps {
		switch line := lineOf(out); {
		case longest == 0:
			f.Knock.StepTimeout = cautious
			f.remarks.add(line, "the rules set no time between two knocks; the policy must, and says %s: a longer one lets a flood of first knocks fill the table", document.FormatDuration(cautious))
		case out.window == 0:
			f.remarks.add(line, "this knock has no time limit; the policy has one for all knocks of a door, %s", document.FormatDuration(longest))
		case out.window < longest:
			f.remarks.add(line, "this knock may take %s, and another one of the door %s; the policy has one time for all, the longest", document.FormatDuration(out.window), document.FormatDuration(longest))
		case longest > policy.MaxStepTimeout:
			f.remarks.add(line, "this knock may take %s, and a policy's no longer than %s", document.FormatDuration(longest), document.FormatDuration(policy.MaxStepTimeout))
		}
	}
	if longest > 0 {
		f.Knock.StepTimeout = min(longest, policy.MaxStepTimeout)
	}
	f.OpenFor = 0
	for _, i := range o.opens {
		out := &o.out[states[last]][i]
		window := out.window
		if window == 0 || window > policy.MaxOpenFor {
			window = policy.MaxOpenFor
			f.remarks.add(lineOf(out), "the rules keep the door open for longer than a policy can, whose longest time is %s", document.FormatDuration(window))
		}
		f.OpenFor = max(f.OpenFor, window)
		if out.renews && o.open(o.next[states[last]][i]) {
			f.remarks.add(lineOf(out), "each connection keeps the door open for longer by these rules (--update); by the policy only a new knock does")
		}
	}
}

// A trial is a way to knock at a door that is not the plain one. At its end a
// connection is let in, or not.
type trial struct {
	kind  trialKind
	ports []int
	odd   int // the port that is not in the sequence
	place int // how many knocks come before it
}

type trialKind int

const (
	twice    trialKind = iota // a second connection
	other                     // a connection to another service of the door
	repeated                  // a knock, or the service, again between knocks
	between                   // another port between two knocks
	partly                    // the same, and then only some of the knocks again
	after                     // another port before the connection
	instead                   // another port in the place of a knock
)

// trials are all ways that distinguish doors of one sequence.
func (o *opening) trials() []trial {
	var all []trial
	n := len(o.knocks)
	add := func(kind trialKind, odd, place int, ports ...[]int) {
		all = append(all, trial{kind, slices.Concat(ports...), odd, place})
	}
	first := o.opens[:1]
	add(twice, first[0], n, o.knocks, first, first)
	if len(o.opens) > 1 {
		add(other, o.opens[1], n, o.knocks, o.opens[:2])
	}
	// The port that no rule names comes first: what is true of it need not be
	// said of every other.
	order := []int{o.others}
	for i := range o.ports {
		if i != o.others && !o.out[0][i].accepts { // which is allowed, and no packet that counts
			order = append(order, i)
		}
	}
	for at := 0; at <= n; at++ {
		for _, i := range order {
			again := slices.Contains(o.knocks[:at], i) || slices.Contains(o.opens, i)
			if at == n {
				if !slices.Contains(o.opens, i) {
					add(after, i, at, o.knocks, []int{i}, first)
				}
				continue
			}
			if i == o.knocks[at] {
				continue
			}
			if !slices.Contains(o.opens, i) || at < n-1 {
				add(instead, i, at, o.knocks[:at], []int{i}, o.knocks[at+1:], first)
			}
			switch {
			case at > 0 && again:
				add(repeated, i, at, o.knocks[:at], []int{i}, o.knocks[at:], first)
			case at > 0:
				add(between, i, at, o.knocks[:at], []int{i}, o.knocks[at:], first)
			}
			for from := 1; from < at && i == o.others; from++ {
				add(partly, i, at, o.knocks[:at], []int{i}, o.knocks[from:], first)
			}
		}
	}
	return all
}

// rulesLetIn reports whether the rules let in the connection at the end of a trial.
func (o *opening) rulesLetIn(t trial) bool {
	last := len(t.ports) - 1
	return o.out[o.run(0, t.ports[:last])][t.ports[last]].accepts
}

// policyLetsIn reports the same of a door of a policy.
func (o *opening) policyLetsIn(m *automaton.Machine, t trial) bool {
	r := automaton.NewReference(m)
	var v automaton.Verdict
	for i, port := range t.ports {
		// Each packet is another connection, and none comes late.
		v = r.Step(0, automaton.Input{Source: o.sender(netip.Prefix{}), Port: o.ports[port], SourcePort: uint16(i + 1), Sequence: uint32(i)})
	}
	return v.Admitted
}

// habits chooses what a policy can say of what else a source sends, so that the
// door, among all, differs least from the rules, and remarks on what is left.
func (f *foundDoor) habits(all []*foundDoor) {
	o := &f.opening
	trials := slices.DeleteFunc(o.trials(), func(t trial) bool {
		// Of two grants that rules know by lists, the first list may hide the other.
		return t.kind == after && slices.ContainsFunc(all, func(other *foundDoor) bool {
			return other != f && slices.Contains(other.Knock.Sequence, o.ports[t.odd])
		})
	})
	// differing returns trials that end otherwise by the policy, up to a number.
	differing := func(d policy.Door, most int) (found []trial) {
		p := policy.New(policy.Closed)
		for _, other := range all {
			of := other.Door
			if other == f {
				of = d
			} else if of.Knock.Sequence[0] == d.Knock.Sequence[0] {
				of.Knock.Retransmits = d.Knock.Retransmits // as doors that begin alike must
			}
			p.Doors = append(p.Doors, of)
		}
		m, err := automaton.Compile(p)
		if err != nil {
			return trials
		}
		m.Parameters = automaton.Parameters{}
		for i := 0; i < len(trials) && len(found) < most; i++ {
			if o.rulesLetIn(trials[i]) != o.policyLetsIn(m, trials[i]) {
				found = append(found, trials[i])
			}
		}
		return found
	}
	// A client that the rules let in counts for two that they do not.
	weight := func(all []trial) (n int) {
		for _, t := range all {
			if n++; o.rulesLetIn(t) {
				n++
			}
		}
		return n
	}
	best := differing(f.Door, len(trials))
	usual := f.Door
	for _, admit := range []policy.Admit{policy.AdmitOne, policy.AdmitAny} {
		for _, retransmits := range []policy.Retransmits{policy.RetransmitsIgnore, policy.RetransmitsReset} {
			for _, forfeit := range []bool{false, true} {
				d := usual
				d.Admit, d.Knock.Retransmits, d.Forfeit = admit, retransmits, forfeit
				if found := differing(d, 2*len(best)+1); weight(found) < weight(best) {
					best, f.Door = found, d
				}
			}
		}
	}
	f.remarkOn(best)
}

// remarkOn says what each trial shows that the policy's door does otherwise.
func (f *foundDoor) remarkOn(trials []trial) {
	o := &f.opening
	said := map[string]bool{}
	type what struct {
		kind  trialKind
		place int
		rules bool
	}
	general := map[what]bool{} // it is so with a port that no rule names
	for _, t := range trials {
		rules := o.rulesLetIn(t)
		key := what{t.kind, t.place, rules}
		if general[key] && t.odd != o.others {
			continue
		}
		general[key] = t.odd == o.others
		state := o.run(0, o.knocks[:t.place])
		at, next := o.out[state][t.odd].line(), f.line
		if t.place < len(o.knocks) {
			next = o.out[state][o.knocks[t.place]].line()
		}
		name := o.portName(t.odd)
		// once is for what need not be said of every port.
		once := func(what string, line int, format string, args ...any) {
			if !said[what] {
				said[what] = true
				f.remarks.add(line, format, args...)
			}
		}
		switch {
		case t.kind == other && !rules:
			f.remarks.add(f.line, "the rules let in one connection in all after a knock; the policy lets in one to each service of the door")
		case t.kind == twice, t.kind == other:
			f.remarks.add(f.line, "how many connections the rules let in after a knock depends on the packets before; by the policy it is as in \"admit: %s\"", f.Admit)
		case t.kind == repeated:
			once("repeated", next, "a knock that comes again does now this, now that by these rules; by the policy it is always as in \"retransmits: %s\"", f.Knock.Retransmits)
		case t.kind == between && rules && t.odd == o.others:
			once("wrong", next, "these rules overlook wrong ports before this knock, so that a scan can walk "+
				"through the sequence; by the policy a wrong port sends a client back to the start")
		case t.kind == partly && rules:
			once("wrong", next, "by these rules a wrong port before this knock does not send a client back all the way to the start; by the policy it does")
		case t.kind == between && rules:
			once(name, at, "by these rules a packet to %s between knocks does not send a client back to the start; by the policy it does", name)
		case t.kind == after && rules:
			f.remarks.add(at, "by these rules a packet to %s after the knocks leaves the grant; by the policy it loses it", name)
		case t.kind == after:
			f.remarks.add(at, "by these rules a packet to %s loses the grant; by the policy it does not", name)
		case t.kind == instead && rules:
			once(fmt.Sprint("instead", t.place), at, "knock %d may be %s as well as %s; a policy has one port for each knock, and this one has %[3]s",
				t.place+1, strings.Replace(name, "all of tcp", "any other tcp port", 1), o.ports[o.knocks[t.place]])
		default:
			f.remarks.add(at, "by these rules a packet to %s before knock %d sends a client back; by the policy it does not", name, t.place+1)
		}
	}
}
