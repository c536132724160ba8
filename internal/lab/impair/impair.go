//go:build linux

// Package impair is a bad network for tests: a link of a lab that delays, loses,
// duplicates and reorders packets, as asked, and counts what it did. A relay in
// this process carries the packets, because not every kernel has netem.
package impair

import (
	"fmt"
	"time"

	"postern/internal/lab"
)

// An Impairment is what a bad network does to packets, each way alike. The
// zero value does nothing.
type Impairment struct {
	// Delay is how long a packet takes one way.
	Delay time.Duration

	// Loss is the share of packets, from 0 to 1, that never arrive.
	Loss float64

	// Duplicate is the share of the arriving packets that arrive twice.
	Duplicate float64

	// Reorder is the share of what arrives, each of two copies on its own,
	// that is held back: it takes Delay and Hold. Whatever is sent less than
	// Hold later and not held back itself overtakes it. The others keep
	// their order, and so do those held back.
	Reorder float64

	// Hold is a quarter of Delay if it is zero.
	Hold time.Duration

	// Seed chooses which packets it happens to. The same seed does the same
	// to the first, second, third packet of a way; the two ways differ.
	Seed uint64
}

// validate returns what is wrong, and otherwise fills in what was left out.
func (m *Impairment) validate() error {
	for _, s := range []struct {
		name  string
		share float64
	}{{"loss", m.Loss}, {"duplicate", m.Duplicate}, {"reorder", m.Reorder}} {
		if !(s.share >= 0 && s.share <= 1) { // so that NaN is refused too
			return fmt.Errorf("%s %v is not a share: give a number from 0 to 1", s.name, s.share)
		}
	}
	if m.Delay < 0 || m.Hold < 0 {
		return fmt.Errorf("delay %s, hold %s: a time cannot be negative", m.Delay, m.Hold)
	}
	if m.Hold == 0 {
		m.Hold = m.Delay / 4
	}
	if m.Reorder > 0 && m.Hold == 0 {
		return fmt.Errorf("reorder %v needs a delay, or a hold: nothing is overtaken that takes no time", m.Reorder)
	}
	return nil
}

// Connect connects two hosts of a lab as lab.Connect does, with a bad network in
// between.
//
// The hosts see a cable that needs no ARP and no neighbour discovery, so nothing
// crosses it but what they say to each other, and a count of packets is one of
// those that a test has caused. For the same reason multicast does not cross. The
// ends cannot be ports of a bridge, and Settle does not wait for what is under way
// between them.
//
// A packet is late by a tenth of a millisecond (BenchmarkImpairedDelay). On a busy
// machine it is late by as long as this process waits for a CPU, and never early.
func Connect(l *lab.Lab, a, b *lab.Host, impairment Impairment, prefixes ...string) (atA, atB *lab.Link, relay *Relay) {
	what := fmt.Sprintf("connect %q and %q, impaired", a.Name, b.Name)
	l.Step(what, impairment.validate)
	atA, atB, cut := l.ConnectCut(a, b, prefixes...)
	relay = &Relay{}
	if l.Err() == nil {
		// Outside the step, as it asks for rings and senders.
		err := relay.start(l, cut[0], cut[1], impairment)
		l.Step(what, func() error { return err })
	}
	return atA, atB, relay
}
