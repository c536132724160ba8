package migrate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"postern/internal/document"
	"postern/internal/policy"
)

// A found door is an opening, read off the rules at one place.
type foundDoor struct {
	door
	opening opening
}

// doorOf reads off an opening what a policy says of a door, and lists what of
// the rules' behaviour it cannot say.
func (ld *loader) doorOf(o opening) *foundDoor {
	states := o.states()
	last := states[len(states)-1]
	granted := o.grantedBy()
	line := lineOf(granted)
	f := &foundDoor{*newDoor(line, ld.left), o}
	for _, i := range o.grants {
		f.Services = append(f.Services, o.ports[i])
		o.out[last][i].mark()
		if out := &o.out[last][i]; out.forward.IsValid() && out.forward != netip.AddrPortFrom(o.at.to.Addr(), o.ports[i].Number) {
			f.Forward = out.forward
			f.Masquerade = o.masquerades(out.forward)
		}
	}
	f.Knock.Sequence = o.sequence()
	f.windows(states)
	f.repeats(states)

	n := o.strays
	f.Forfeit = !o.hasGrants(o.next[last][n])
	service := o.grants[0]
	after := o.next[last][service]
	if slices.Contains(o.machine.grants(after), service) {
		f.Admit = policy.AdmitAny
	} else if len(o.grants) > 1 && !slices.Contains(o.machine.grants(after), o.grants[1]) {
		f.left.add(line, "the rules let in one connection in all after a knock; the policy lets in one to each service of the door")
	}
	for i := 1; i < len(states)-1; i++ {
		switch o.class[o.next[states[i]][n]] {
		case 0:
			continue
		case o.class[states[i]]:
			f.left.add(lineOf(&o.out[states[i]][o.knocks[i]]), "these rules overlook wrong ports before this knock, so that a scan can walk "+
				"through the sequence; by the policy a wrong port sends a client back to the start")
		default:
			f.left.add(lineOf(&o.out[states[i]][o.knocks[i]]), "by these rules a wrong port before this knock does not send a client back "+
				"all the way to the start; by the policy it does")
		}
		break
	}
	f.alternatives(states)
	f.overlooked(states)
	return f
}

// overlooked lists ports that are wrong ones by the policy, and by the rules
// are refused before anybody looks at knocks.
func (f *foundDoor) overlooked(states []int) {
	o := &f.opening
	for _, here := range states[1 : len(states)-1] {
		for i, port := range o.ports {
			out := &o.out[here][i]
			if o.class[o.next[here][i]] != o.class[here] || o.class[o.next[here][o.strays]] == o.class[here] ||
				out.verdict == accepted || o.opensAnywhere(i) || slices.Contains(o.knocks, i) {
				continue
			}
			what := port.String()
			if i >= o.strays {
				what = "all of " + port.Protocol.String()
			}
			f.left.add(lineOf(out), "by these rules a packet to %s between knocks does not send a client back to the start; by the policy it does", what)
		}
	}
}

// lineOf is the line that decided; 0: none did.
func lineOf(o *outcome) int {
	switch {
	case o.by != nil:
		return o.by.line
	case o.chain != nil:
		return o.chain.line
	}
	return 0
}

// windows reads the times that the rules allow.
func (f *foundDoor) windows(states []int) {
	o := &f.opening
	var steps []*outcome
	longest := time.Duration(0)
	for i := 1; i < len(o.knocks); i++ {
		out := &o.out[states[i]][o.knocks[i]]
		steps = append(steps, out)
		longest = max(longest, out.window)
	}
	const cautious = 30 * time.Second
	for _, out := range steps {
		switch line := lineAt(out.windowBy, out); {
		case longest == 0:
			f.Knock.StepTimeout = cautious
			f.left.add(line, "the rules set no time between two knocks; the policy must, and says %s: a longer one lets a flood of first knocks fill the table", document.FormatDuration(cautious))
		case out.window == 0:
			f.left.add(line, "this knock has no time limit; the policy has one for all knocks of a door, %s", document.FormatDuration(longest))
		case out.window < longest:
			f.left.add(line, "this knock may take %s, and another one of the door %s; the policy has one time for all, the longest", document.FormatDuration(out.window), document.FormatDuration(longest))
		}
	}
	if longest > 0 {
		f.Knock.StepTimeout = min(longest, time.Hour)
	}

	last := states[len(states)-1]
	f.OpenFor = 0
	for _, i := range o.grants {
		out := &o.out[last][i]
		line := lineAt(out.windowBy, out)
		window := out.window
		if window == 0 || window > 24*time.Hour {
			window = 24 * time.Hour
			f.left.add(line, "the rules keep the door open for longer than a policy can, whose longest time is 24h")
		}
		f.OpenFor = max(f.OpenFor, window)
		if out.renews && o.hasGrants(o.next[last][i]) {
			f.left.add(line, "each connection keeps the door open for longer by these rules (--update); by the policy only a new knock does")
		}
	}
}

func lineAt(r *rule, o *outcome) int {
	if r != nil {
		return r.line
	}
	return lineOf(o)
}

// repeats finds what the rules do when a knock comes again, by comparing them
// with both of what a policy can say.
func (f *foundDoor) repeats(states []int) {
	o := &f.opening
	var ignore, back int // how often the rules do otherwise
	line := 0
	for i := 1; i < len(o.knocks); i++ {
		here := states[i]
		for _, port := range slices.Concat(o.knocks[:i], o.grants) {
			if port == o.knocks[i] {
				continue
			}
			next := o.class[o.next[here][port]]
			if next != o.class[here] {
				ignore++
				if by := o.out[here][port].by; by != nil {
					line = by.line
				}
			}
			if next != o.class[o.next[0][port]] {
				back++
			}
		}
	}
	if last := states[len(states)-1]; len(o.knocks) > 1 && !o.hasGrants(o.next[last][o.strays]) {
		// Under forfeit a repeat of the last knock is a wrong port, or is not.
		if o.hasGrants(o.next[last][o.knocks[len(o.knocks)-1]]) {
			back++
		} else {
			ignore++
		}
	}
	if back < ignore {
		f.Knock.Retransmits = policy.RetransmitsReset
	}
	if min(ignore, back) > 0 {
		f.left.add(cmp.Or(line, f.line), "a knock that comes again does now this, now that by these rules; by the policy it is always as in \"retransmits: %s\"", f.Knock.Retransmits)
	}
}

// alternatives lists knocks for which several ports do.
func (f *foundDoor) alternatives(states []int) {
	o := &f.opening
	for i, chosen := range o.knocks {
		here := states[i]
		target := o.class[o.next[here][chosen]]
		for other := range o.ports {
			if other == chosen || o.class[o.next[here][other]] != target || target == 0 {
				continue
			}
			what := o.ports[other].String()
			if other >= o.strays {
				what = "any other " + o.ports[other].Protocol.String() + " port"
			}
			if slices.Contains(o.grants, other) && i == len(o.knocks)-1 {
				continue
			}
			f.left.add(lineOf(&o.out[here][other]), "knock %d may be %s as well as %s; a policy has one port for each knock, and this one has %s",
				i+1, what, o.ports[chosen], o.ports[chosen])
			break
		}
	}
}

// masquerades tells whether the forwarded connection gets this host's address.
func (w *walker) masquerades(to netip.AddrPort) bool {
	c := w.set.chains[chainName{"nat", "POSTROUTING"}]
	if c == nil {
		return false
	}
	for _, r := range c.rules {
		if r.target != "MASQUERADE" && r.target != "SNAT" {
			continue
		}
		if slices.ContainsFunc(r.tests, func(t test) bool {
			return t.kind == onAddress && !t.not && t.network == netip.PrefixFrom(to.Addr(), to.Addr().BitLen())
		}) {
			r.marked = true
			return true
		}
	}
	return false
}

// impossible tells why an opening cannot be a door, or gives an empty string.
func (o *opening) impossible() string {
	for _, i := range o.knocks {
		if i >= o.strays {
			return fmt.Sprintf("any %s packet is a knock here, and a policy's knocks are ports", o.ports[i].Protocol)
		}
		// In guard a knock goes on untouched, as every other packet does.
		if out, other := &o.out[0][i], &o.out[0][o.strays]; out.verdict == accepted && (other.verdict != accepted || out.by != other.by) {
			return fmt.Sprintf("the knock %s is open to everyone; what a policy allows is no knock", o.ports[i])
		}
	}
	for _, i := range o.grants {
		if i >= o.strays {
			return "the knocks open every port, and a policy's door names its services"
		}
		forwards := 0
		for _, j := range o.grants {
			if o.out[o.run(0, o.knocks)][j].forward.IsValid() {
				forwards++
			}
		}
		if forwards > 0 && len(o.grants) > 1 {
			return "the knocks open several services and forward one, and a policy's door that forwards has one service"
		}
	}
	return ""
}

// doors reads the doors off one rule set, with the places they are for.
func (ld *loader) doors(w *walker, m mentions) (found []*foundDoor, places map[*foundDoor][]place, err error) {
	places = map[*foundDoor][]place{}
	var spare int // work that is left for what comes after
	for n, at := range slices.Concat(m.places, m.others) {
		if n == len(m.places) {
			spare = w.work / 2
			w.work -= spare
		}
		x, err := w.explore(m, at)
		if err != nil && n < len(m.places) {
			return nil, nil, err
		} else if err != nil {
			break
		}
	openings:
		for _, o := range x.openings() {
			for _, f := range found {
				if !o.same(&f.opening) {
					continue
				}
				if !slices.ContainsFunc(places[f], at.within) {
					places[f] = append(places[f], at)
				}
				continue openings
			}
			if why := o.impossible(); why != "" {
				ld.left.add(lineOf(o.grantedBy()), "no door can be made of this: %s", why)
				continue
			}
			f := ld.doorOf(o)
			found = append(found, f)
			places[f] = []place{at}
		}
	}
	w.work = max(w.work, 0) + spare
	return found, places, nil
}

func (o *opening) same(p *opening) bool {
	return slices.Equal(o.knocks, p.knocks) && slices.Equal(o.grants, p.grants)
}
