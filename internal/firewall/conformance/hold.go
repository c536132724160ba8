package conformance

import (
	"fmt"
	"net/netip"
	"time"

	"postern/internal/automaton"
)

// compare tells how what the backend holds for a scenario's sources differs from
// what the reference holds, or "".
func (o *model) compare(l look, s scenario) string {
	mask := o.machine.Policy.Source.Mask
	band := guard + 2*o.noise + l.at.late
	type grant struct {
		source  netip.Addr
		service automaton.ServiceID
	}
	states := map[netip.Addr]automaton.StateID{}
	left := map[netip.Addr]time.Duration{}
	for _, p := range l.status.Progress {
		states[p.Source], left[p.Source] = p.State, p.Left
	}
	grants := map[grant]time.Duration{}
	for _, g := range l.status.Grants {
		grants[grant{g.Source, g.Service}] = g.Left
	}
	// What must be there: what the reference has for longer than can be unsure.
	// What may be there: what it has had until just now.
	surely := func(until time.Duration) bool { return until > l.at.to+band }
	perhaps := func(until time.Duration) bool { return until > l.at.from-band }
	off := func(until, left time.Duration) bool {
		return left < until-l.at.to-band || left > until-l.at.from+band
	}
	done := map[netip.Addr]bool{}
	for _, e := range s {
		source := mask(e.shot.src)
		if done[source] {
			continue
		}
		done[source] = true
		h := o.ref.SourceState(e.shot.src)
		is, there := states[source]
		switch {
		case !there && h.State != automaton.Root && surely(h.Until):
			return fmt.Sprintf("%s: the reference has made progress: %s, for %v; the backend has it at the root",
				source, o.state(h.State), h.Until-l.at.from)
		case there && (h.State == automaton.Root || !perhaps(h.Until)):
			return fmt.Sprintf("%s: the reference has it at the root; the backend has made progress: %s, for %v",
				source, o.state(is), left[source])
		case there && is != h.State:
			return fmt.Sprintf("%s: the reference has made progress: %s; the backend: %s", source, o.state(h.State), o.state(is))
		case there && off(h.Until, left[source]):
			return fmt.Sprintf("%s: its progress is good for %v; in the backend for %v", source, h.Until-l.at.from, left[source])
		}
		for i := range o.machine.Services {
			service := &o.machine.Services[i]
			until, holds := h.Grants[service.ID]
			left, there := grants[grant{source, service.ID}]
			switch {
			case !there && holds && surely(until):
				return fmt.Sprintf("%s: the reference has granted %s, for %v; the backend has not", source, service, until-l.at.from)
			case there && (!holds || !perhaps(until)):
				return fmt.Sprintf("%s: the reference has not granted %s; the backend has, for %v", source, service, left)
			case there && off(until, left):
				return fmt.Sprintf("%s: its grant for %s is good for %v; in the backend for %v", source, service, until-l.at.from, left)
			}
		}
	}
	return ""
}

// state writes a state as the knocks that lead to it.
func (o *model) state(id automaton.StateID) string {
	if id == automaton.Root {
		return "root"
	}
	s := o.machine.State(id)
	if s == nil {
		return fmt.Sprintf("unknown state %x", uint32(id))
	}
	text := fmt.Sprint(s.Path)
	if s.Opened {
		text += " opened"
	}
	return text
}
