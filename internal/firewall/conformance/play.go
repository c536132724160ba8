package conformance

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// A trial is a scenario as it was played, and what was to become of it.
type trial struct {
	scenario scenario
	sent     []span    // when each packet was judged
	outcomes []outcome // what was to become of it
	tags     []uint32
	admitted []bool // whether it got through
	unsure   bool   // it ended early, with a packet that came too near to a deadline
	wrong    int    // the first packet that was decided otherwise; -1 if none was
	held     string // what the backend held otherwise, after packet wrong

	model *model
	due   time.Duration // when the next packet is to be sent
}

// A look is what the backend said that it held, between two packets.
type look struct {
	at     span
	status *firewall.Status
}

func (t *trial) differs() bool { return t.wrong >= 0 }

// group gives the packets that are to be sent next, at once.
func (t *trial) group() scenario {
	rest := t.scenario[len(t.sent):]
	n := 0
	for n < len(rest) && rest[n].at == rest[0].at {
		n++
	}
	return rest[:n]
}

// near tells whether any of these packets would come too near to a deadline now.
func (t *trial) near(now time.Duration, group scenario) bool {
	return slices.ContainsFunc(group, func(e event) bool {
		return t.model.near(now, e.shot.src, guard+2*t.model.noise+tick)
	})
}

// record takes in that the group's packets were sent.
func (t *trial) record(group scenario, tags []uint32, at span) {
	for i, e := range group {
		v := t.model.step(at, e.shot)
		if v.unsure {
			t.unsure = true
			return
		}
		t.sent = append(t.sent, at)
		t.tags = append(t.tags, tags[i])
		t.outcomes = append(t.outcomes, v)
	}
	if n := len(t.sent); n < len(t.scenario) {
		t.due = at.from + t.scenario[n].at - t.scenario[n-1].at
	}
}

// done tells whether the trial is over.
func (t *trial) done() bool { return t.unsure || t.held != "" || len(t.sent) == len(t.scenario) }

// play sends the packets of scenarios under a machine that has been applied, and
// looks at what the backend holds: so many times in between, and at the end. If
// replace is not nil, it is applied in the machine's place after each look; it
// must differ from the machine in nothing that a packet could tell.
func (w *world) play(m, replace *automaton.Machine, scenarios []scenario, looks int) (trials []*trial, err error) {
	for _, s := range scenarios {
		trials = append(trials, &trial{scenario: s, wrong: -1, model: newModel(m), due: s[0].at})
	}
	if err := w.onCPU(func() error { return w.playAll(replace, trials, looks) }); err != nil {
		return nil, err
	}
	seen, err := w.drain()
	if err != nil {
		return nil, err
	}
	for _, t := range trials {
		for i, tag := range t.tags {
			t.admitted = append(t.admitted, seen[tag])
			if seen[tag] != t.outcomes[i].pass && (t.wrong < 0 || i <= t.wrong) {
				t.wrong, t.held = i, ""
				break
			}
		}
	}
	return trials, nil
}

func (w *world) playAll(replace *automaton.Machine, trials []*trial, looks int) error {
	total, sent, looked := 0, 0, 0
	for _, t := range trials {
		total += len(t.scenario)
	}
	begin := time.Now()
	for {
		now := time.Since(begin)
		var going []*trial
		var groups []scenario
		next := time.Duration(-1)
		for _, t := range trials {
			if t.done() {
				continue
			}
			if t.due <= now {
				group := t.group()
				if !t.near(now, group) {
					going, groups = append(going, t), append(groups, group)
					continue
				}
				t.due = now + tick/2
			}
			if next < 0 || t.due < next {
				next = t.due
			}
		}
		if len(going) == 0 && next < 0 {
			return w.look(begin, trials)
		}
		if len(going) == 0 {
			sleep(next - now)
			continue
		}
		n, err := w.sendGroups(begin, going, groups)
		if err != nil {
			return err
		}
		if sent += n; sent*looks > looked*total {
			looked++
			if err := w.look(begin, trials); err != nil {
				return err
			}
			if replace == nil {
				continue
			}
			if err := w.apply(replace); err != nil {
				return err
			}
		}
	}
}

// sendGroups sends groups of packets, and tells how many they were.
func (w *world) sendGroups(begin time.Time, trials []*trial, groups []scenario) (int, error) {
	var shots []shot
	order := make([][]int, len(groups)) // where each packet of a group is among all
	// One of each in turn: nobody's packets stay together.
	for i, more := 0, true; more; i++ {
		more = false
		for k, g := range groups {
			if i < len(g) {
				order[k] = append(order[k], len(shots))
				shots = append(shots, g[i].shot)
				more = true
			}
		}
	}
	first, at, err := w.send(begin, shots)
	if err != nil {
		return 0, err
	}
	for k, t := range trials {
		tags := make([]uint32, len(order[k]))
		for i, n := range order[k] {
			tags[i] = first + uint32(n)
		}
		t.record(groups[k], tags, at)
	}
	return len(shots), nil
}

// look compares what the backend holds with what the reference does.
func (w *world) look(begin time.Time, trials []*trial) error {
	w.looks++
	l := look{at: span{from: time.Since(begin), late: late()}}
	var err error
	if l.status, err = w.inspect(); err != nil {
		return err
	}
	l.at.to, l.at.late = time.Since(begin), max(l.at.late, late())
	for _, t := range trials {
		if t.unsure || t.held != "" {
			continue
		}
		if t.held = t.model.compare(l, t.scenario); t.held != "" {
			t.wrong = max(0, len(t.sent)-1)
		}
	}
	return nil
}

// sleep is time.Sleep on this very thread: none of the runtime's, which the
// kernel may run later, has to wake it.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	unix.Nanosleep(&t, nil) // a signal ends it early, and the caller looks again
}
