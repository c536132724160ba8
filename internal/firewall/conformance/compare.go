package conformance

import (
	"fmt"
	"net/netip"
	"time"

	"postern/internal/automaton"
)

// compare returns how the backend's state of a scenario's sources differs from
// the reference's, or "".
func (o *model) compare(l snapshot, s scenario) string {
	mask := o.machine.Policy.Source.Mask
	band := guard + 2*o.noise + l.at.late
	type grant struct {
		source netip.Addr
		id     automaton.GrantID
	}
	states := map[netip.Addr]automaton.StateID{}
	left := map[netip.Addr]time.Duration{}
	for _, p := range l.status.Progress {
		if o.machine.State(p.State) != nil { // others are left to expire
			states[p.Source], left[p.Source] = p.State, p.Left
		}
	}
	grants := map[grant]time.Duration{}
	for _, g := range l.status.Grants {
		grants[grant{g.Source, g.ID}] = g.Left
	}
	// An entry must exist if the reference has it for longer than the
	// uncertainty. It may exist if the reference had it until just now.
	certain := func(until time.Duration) bool { return until > l.at.to+band }
	possible := func(until time.Duration) bool { return until > l.at.from-band }
	off := func(until, left time.Duration) bool {
		return left < until-l.at.to-band || left > until-l.at.from+band
	}
	done := map[netip.Addr]bool{}
	for _, e := range s {
		source := mask(e.probe.src)
		if done[source] {
			continue
		}
		done[source] = true
		h := o.ref.SourceState(e.probe.src)
		is, there := states[source]
		switch {
		case !there && h.State != automaton.Root && certain(h.Until):
			return fmt.Sprintf("%s: in the reference its state is %s, for %v; in the backend it is root",
				source, o.state(h.State), h.Until-l.at.from)
		case there && (h.State == automaton.Root || !possible(h.Until)):
			return fmt.Sprintf("%s: in the reference its state is root; in the backend it is %s, for %v",
				source, o.state(is), left[source])
		case there && is != h.State:
			return fmt.Sprintf("%s: in the reference its state is %s; in the backend it is %s", source, o.state(h.State), o.state(is))
		case there && off(h.Until, left[source]):
			return fmt.Sprintf("%s: its progress expires in %v; in the backend in %v", source, h.Until-l.at.from, left[source])
		}
		for i := range o.machine.Grants {
			g := &o.machine.Grants[i]
			until, holds := h.Grants[g.ID]
			left, there := grants[grant{source, g.ID}]
			what := fmt.Sprintf("grant of %s by %s", &o.machine.Services[g.Service], o.machine.Doors[g.Door].Name)
			switch {
			case !there && holds && certain(until):
				return fmt.Sprintf("%s: in the reference it has a %s, for %v; in the backend it has none", source, what, until-l.at.from)
			case there && (!holds || !possible(until)):
				return fmt.Sprintf("%s: in the reference it has no %s; in the backend it has one, for %v", source, what, left)
			case there && off(until, left):
				return fmt.Sprintf("%s: its %s expires in %v; in the backend in %v", source, what, until-l.at.from, left)
			}
		}
	}
	return ""
}

// state returns a state as the knocks that lead to it.
func (o *model) state(id automaton.StateID) string {
	if id == automaton.Root {
		return "root"
	}
	s := o.machine.State(id)
	if s == nil && o.former != nil {
		s = o.former.State(id)
	}
	if s == nil {
		return fmt.Sprintf("unknown state %x", uint32(id))
	}
	text := fmt.Sprint(s.Path)
	if s.Opened {
		text += " opened"
	}
	return text
}
