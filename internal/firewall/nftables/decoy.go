//go:build linux

package nftables

import (
	"bytes"
	"slices"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// addDecoys adds the machine's decoys to the tables of its rule set. A right first knock is
// found in them, which takes longer than not to find a port; with these it is one of a
// thousand. They are no part of the digest: the rules do the same without.
func (r *Ruleset) addDecoys(m *automaton.Machine) {
	all := m.Decoys()
	if len(all) == 0 {
		return
	}
	step, echo, pace, noted := r.set("step"), r.set("step_echo"), r.set("pace"), r.set("noted")
	from := func(id automaton.StateID, on policy.Port, to automaton.StateID) {
		key := []part{idPart(uint32(id))}
		if on.Protocol == policy.ICMP {
			echo.elements = append(echo.elements, elementOf(key...).to(uint32(to)|moved))
			return
		}
		key = append(key, portParts(on)...)
		step.elements = append(step.elements, elementOf(key...).to(uint32(to)|moved))
	}
	for i := range all {
		d := &all[i]
		from(d.From, d.Path[len(d.Path)-1], d.ID)
		if noted != nil && d.From == automaton.Root && d.Path[0].Protocol == policy.TCP {
			noted.elements = append(noted.elements, notedElement(d.Path[0], d.ID))
		}
		for _, port := range d.Loops {
			from(d.ID, port, d.ID)
		}
		if pace != nil {
			pace.elements = append(pace.elements, elementOf(idPart(uint32(d.ID))).goingTo(&chain{name: moveName(d.Timeout)}))
		}
	}
	// What the kernel has got first it finds last, where several share a place of its hash table.
	for _, s := range []*set{step, echo, pace, noted} {
		if s != nil {
			slices.SortFunc(s.elements, func(a, b element) int { return bytes.Compare(a.key, b.key) })
		}
	}
	r.name.comment = r.comment()
}
