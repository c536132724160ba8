package conformance

import (
	"math/rand/v2"
	"slices"
	"time"

	"postern/internal/automaton"
)

// A change is what becomes of one door of a plan when its rules are replaced.
// The ports that are hidden stay the same, so that only what sources have earned
// is at stake. The zero value is no change.
type change struct {
	door    string
	gone    bool     // it is removed; other doors open all of its services
	openFor string   // if not empty: its grants last for another time
	from    []string // if not nil: it is for these only
}

// drawChange draws what is changed in a plan.
func (p *plan) drawChange(r *rand.Rand, timeouts []string, blocks []block) change {
	d := pick(r, p.doors)
	c := change{door: d.name}
	switch shared := p.shares(&d); {
	case shared && chance(r, 0.7):
		c.gone = true
	case p.classic || chance(r, 0.6):
		for c.openFor = d.openFor; c.openFor == d.openFor; {
			c.openFor = pick(r, timeouts)
		}
	default:
		c.from = []string{pick(r, blocks).draw(r)}
	}
	return c
}

// shares reports whether other doors open all services of a door.
func (p *plan) shares(d *doorPlan) bool {
	return !slices.ContainsFunc(d.services, func(service string) bool {
		return !slices.ContainsFunc(p.doors, func(o doorPlan) bool {
			return o.name != d.name && o.address == d.address && slices.Contains(o.services, service)
		})
	})
}

// successor returns the plan with its change, and with its doors in the opposite
// order. They are the same doors, but a backend may number and arrange them
// differently.
func (p *plan) successor() *plan {
	next := *p
	next.change, next.doors = change{}, nil
	for _, d := range slices.Backward(p.doors) {
		if d.name == p.change.door {
			if p.change.gone {
				continue
			}
			if p.change.openFor != "" {
				d.openFor = p.change.openFor
			}
			if p.change.from != nil {
				d.from = p.change.from
			}
		}
		next.doors = append(next.doors, d)
	}
	return &next
}

// successor compiles the plan that replaces one whose machine is m. A change that
// cannot be made without more than grants being at stake is taken back.
func (s *subject) successor(p *plan, m *automaton.Machine) (*automaton.Machine, error) {
	next, err := s.machine(p.successor())
	if err == nil && next.Parameters == m.Parameters && shortestStay(next) == shortestStay(m) {
		return next, nil
	}
	p.change = change{}
	return s.machine(p.successor())
}

// shortestStay returns the shortest time that a source stays in a state. For some
// time after it has become longer, a kernel may delete an element that has
// expired in the place of one that lives; the rules count on the shortest time.
func shortestStay(m *automaton.Machine) time.Duration {
	shortest := time.Duration(0)
	for i := range m.States {
		if t := m.States[i].Timeout; shortest == 0 || t < shortest {
			shortest = t
		}
	}
	return shortest
}

// String returns what is changed.
func (c change) String() string {
	switch {
	case c.door == "":
		return "the same doors"
	case c.gone:
		return "the same doors without " + c.door
	case c.openFor != "":
		return "the same doors, but " + c.door + " for " + c.openFor
	}
	return "the same doors, but " + c.door + " from " + c.from[0]
}
