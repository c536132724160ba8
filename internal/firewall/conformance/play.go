package conformance

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// A trial is a scenario as it was played, and what should have happened.
type trial struct {
	scenario scenario
	sent     []span    // when each packet was judged
	outcomes []outcome // what must happen to each
	tags     []uint32
	admitted []bool // whether it got through
	marks    []marks
	unsure   bool   // it ended early: a packet came too close to a deadline
	wrong    int    // the first packet that was judged differently; -1: none
	held     string // how the backend's state differed after that packet

	model *model
	kept  int           // how many packets were sent before the rules were replaced
	due   time.Duration // when the next packet is to be sent
}

// A replacement is the machine that replaces another, once so many packets have
// been sent. The zero value is none.
type replacement struct {
	machine *automaton.Machine
	after   int
}

// A snapshot is the backend's state between two packets.
type snapshot struct {
	at     span
	status *firewall.Status
}

func (t *trial) differs() bool { return t.wrong >= 0 }

// misjudged reports whether the fate of a packet was another than it must be.
func (t *trial) misjudged(i int) bool {
	v := &t.outcomes[i]
	return t.admitted[i] != v.pass || v.pass && !v.mark.allows(t.marks[i])
}

// group returns the packets that are sent next, at the same time.
func (t *trial) group() scenario {
	rest := t.scenario[len(t.sent):]
	n := 0
	for n < len(rest) && rest[n].at == rest[0].at {
		n++
	}
	return rest[:n]
}

// near reports whether any of these packets would come too close to a deadline
// now.
func (t *trial) near(now time.Duration, group scenario) bool {
	return slices.ContainsFunc(group, func(e event) bool {
		return t.model.near(now, e.probe.src, guard+2*t.model.noise+tick)
	})
}

// record records that the group's packets were sent.
func (t *trial) record(group scenario, tags []uint32, at span) {
	for i, e := range group {
		v := t.model.step(at, e.probe)
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

// done reports whether the trial is over.
func (t *trial) done() bool { return t.unsure || t.held != "" || len(t.sent) == len(t.scenario) }

// play sends the packets of scenarios under a machine that has been applied. It
// compares the backend's state with the reference that many times in between,
// and at the end. The rules may be replaced after each comparison.
func (w *testbed) play(m *automaton.Machine, next replacement, scenarios []scenario, inspections int) (trials []*trial, err error) {
	for _, s := range scenarios {
		trials = append(trials, &trial{scenario: s, wrong: -1, model: newModel(m), due: s[0].at})
	}
	if err := w.onCPU(func() error { return w.playAll(next, trials, inspections) }); err != nil {
		return nil, err
	}
	seen, err := w.drain()
	if err != nil {
		return nil, err
	}
	for _, t := range trials {
		for i, tag := range t.tags {
			m, arrived := seen[tag]
			t.admitted, t.marks = append(t.admitted, arrived), append(t.marks, m)
			if t.misjudged(i) && (t.wrong < 0 || i <= t.wrong) {
				t.wrong, t.held = i, ""
				break
			}
		}
	}
	return trials, nil
}

func (w *testbed) playAll(next replacement, trials []*trial, inspections int) error {
	total, sent, looked := 0, 0, 0
	for _, t := range trials {
		total += len(t.scenario)
	}
	begin := time.Now()
	for {
		now := time.Since(begin)
		var going []*trial
		var groups []scenario
		soonest := time.Duration(-1)
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
			if soonest < 0 || t.due < soonest {
				soonest = t.due
			}
		}
		if len(going) == 0 && soonest < 0 {
			return w.inspectAll(begin, trials)
		}
		if len(going) == 0 {
			sleep(soonest - now)
			continue
		}
		n, err := w.sendGroups(begin, going, groups)
		if err != nil {
			return err
		}
		if sent += n; sent*inspections > looked*total {
			looked++
			if err := w.inspectAll(begin, trials); err != nil {
				return err
			}
			if next.machine == nil || sent < next.after {
				continue
			}
			if err := w.apply(next.machine); err != nil {
				return err
			}
			for _, t := range trials {
				if t.model.replace(next.machine) {
					t.kept = len(t.sent)
				}
			}
		}
	}
}

// sendGroups sends groups of packets and returns how many packets they were.
func (w *testbed) sendGroups(begin time.Time, trials []*trial, groups []scenario) (int, error) {
	var probes []probe
	order := make([][]int, len(groups)) // where each packet of a group is among all
	// One packet of each group in turn, so that the groups are interleaved.
	for i, more := 0, true; more; i++ {
		more = false
		for k, g := range groups {
			if i < len(g) {
				order[k] = append(order[k], len(probes))
				probes = append(probes, g[i].probe)
				more = true
			}
		}
	}
	first, at, err := w.send(begin, probes)
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
	return len(probes), nil
}

// inspectAll compares the backend's state with the reference.
func (w *testbed) inspectAll(begin time.Time, trials []*trial) error {
	w.inspections++
	l := snapshot{at: span{from: time.Since(begin), late: late()}}
	var err error
	if l.status, err = w.inspect(); err != nil {
		return err
	}
	l.at.to, l.at.late = time.Since(begin), max(l.at.late, late())
	early := uint64(0)
	if l.status.Early != nil {
		early = l.status.Early.Packets
	}
	w.dropped += int(max(early, w.early) - w.early) // it begins anew where another policy had none
	w.early = early
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

// sleep is time.Sleep on this thread, without waking another thread of the
// runtime, which the kernel might run later.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	unix.Nanosleep(&t, nil) // a signal may end it early; the caller checks the time
}
