package migrate

import (
	"slices"
	"strconv"
	"strings"

	"postern/internal/policy"
)

// marks reads off what every door's packets and connections are marked with, if it is
// the same bits for all.
func marks(d *draft, sides []*side) {
	var found []policy.Mark
	for _, s := range sides {
		for _, f := range s.doors {
			for _, service := range f.opening.opens {
				o := f.opening.last(service)
				found = append(found, max(s.markBefore(o.by), s.markBefore(o.sentBy)))
			}
		}
	}
	if found = slices.Compact(found); len(found) != 1 || found[0] == 0 {
		return
	}
	d.Admitted.Mark = found[0]
	for _, s := range sides {
		for _, c := range s.set.order {
			for _, r := range c.rules {
				r.explained = r.explained || r.options["--set-xmark"] == found[0].String()+"/"+found[0].String()
			}
		}
	}
}

// markBefore returns the bits that a chain sets in the connection's mark, whatever the
// packet, before a rule of it lets the packet in or sends it on.
func (s *side) markBefore(by *rule) policy.Mark {
	for _, c := range s.set.order {
		for _, r := range c.rules[:max(0, slices.Index(c.rules, by))] {
			value, mask, _ := strings.Cut(r.options["--set-xmark"], "/")
			if bits, err := strconv.ParseUint(value, 0, 32); r.target == "CONNMARK" && len(r.tests) == 0 && value == mask && err == nil {
				return policy.Mark(bits)
			}
		}
	}
	return 0
}
