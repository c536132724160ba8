package automaton

import (
	"maps"
	"net/netip"
	"time"
)

// A SourceState is what a source has, and until when. What has run out is in it
// too, as long as nothing has replaced it.
type SourceState struct {
	State  StateID // Root: it has made no progress since it last lost it
	Until  time.Duration
	Grants map[ServiceID]time.Duration
}

// SourceState gives what the source of an address has, for comparison with what a
// firewall remembers.
func (r *Reference) SourceState(addr netip.Addr) SourceState {
	source := r.machine.Policy.Source.Mask(addr)
	p := r.progress[source]
	h := SourceState{State: p.state, Until: p.until, Grants: map[ServiceID]time.Duration{}}
	for key, g := range r.grants {
		if key.source == source {
			h.Grants[key.service] = g.until
		}
	}
	return h
}

// Live gives what has not run out at a moment.
func (h SourceState) At(at time.Duration) SourceState {
	if at >= h.Until {
		h.State, h.Until = Root, 0
	}
	h.Grants = maps.Clone(h.Grants)
	maps.DeleteFunc(h.Grants, func(_ ServiceID, until time.Duration) bool { return at >= until })
	return h
}
