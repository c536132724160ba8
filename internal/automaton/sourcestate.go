package automaton

import (
	"maps"
	"net/netip"
	"time"
)

// A SourceState is the progress and the grants of one source, each with the
// time at which it expires. Expired entries are included until something
// replaces them.
type SourceState struct {
	State  StateID // Root if it has no progress in a state of the machine
	Until  time.Duration
	Grants map[GrantID]time.Duration // those that a door of the machine gives
}

// SourceState returns the state of the source that addr belongs to, for
// comparison with what a firewall remembers.
func (r *Reference) SourceState(addr netip.Addr) SourceState {
	source := r.machine.Policy.Source.Mask(addr)
	p := r.progress[source]
	if r.machine.State(p.state) == nil {
		p = progress{}
	}
	h := SourceState{State: p.state, Until: p.until, Grants: map[GrantID]time.Duration{}}
	for key, g := range r.grants {
		if key.source == source && r.machine.Grant(key.id) != nil {
			h.Grants[key.id] = g.until
		}
	}
	return h
}

// At returns the state without what has expired by the given time.
func (h SourceState) At(at time.Duration) SourceState {
	if at >= h.Until {
		h.State, h.Until = Root, 0
	}
	h.Grants = maps.Clone(h.Grants)
	maps.DeleteFunc(h.Grants, func(_ GrantID, until time.Duration) bool { return at >= until })
	return h
}
