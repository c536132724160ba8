//go:build linux

package lab

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
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

// ConnectImpaired is Connect with a bad network in between. The ends are named
// and addressed as Connect would do it.
//
// The hosts see a cable that needs no ARP and no neighbour discovery, so
// nothing crosses but what they have to say to each other, and a count of
// packets is one of those that a test has caused. For the same reason
// multicast does not cross. The ends cannot be ports of a bridge, and Settle
// does not wait for what is under way between them.
//
// A packet is late by a tenth of a millisecond (BenchmarkImpairedDelay). On a
// busy machine it is late by as long as this process waits for a CPU, and
// never early.
func (l *Lab) ConnectImpaired(a, b *Host, impairment Impairment, prefixes ...string) (atA, atB *Link, relay *Relay) {
	atA, atB = &Link{Host: a, impaired: true}, &Link{Host: b, impaired: true}
	atA.Peer, atB.Peer = atB, atA
	// No name that the lab's user could have chosen.
	between := &Host{Name: a.Name + "~" + b.Name, lab: l}
	toA, toB := &Link{Host: between, Peer: atA}, &Link{Host: between, Peer: atB}
	what := fmt.Sprintf("connect %q and %q, impaired", a.Name, b.Name)
	l.step(what, func() error {
		if a == b || a.lab != l || b.lab != l {
			return errors.New("a cable needs two hosts of this lab")
		}
		if err := impairment.validate(); err != nil {
			return err
		}
		l.hosts = append(l.hosts, between) // before anything can fail, so that Close finds it
		if err := between.beDumb(); err != nil {
			return err
		}
		if err := lay(atA, toA, b.Name, a.Name); err != nil {
			return err
		}
		if err := lay(atB, toB, a.Name, b.Name); err != nil {
			return err
		}
		if err := address(atA, atB, prefixes); err != nil {
			return err
		}
		return errors.Join(toA.awaitUp(), toB.awaitUp())
	})
	// Outside the step: what follows takes the lab's lock by itself.
	relay = &Relay{}
	if l.usable() == nil {
		err := relay.start(toA, toB, impairment)
		l.step(what, func() error { return err })
	}
	return atA, atB, relay
}

// beDumb makes a host that takes part in nothing: it has no addresses, and does
// not look for any.
func (h *Host) beDumb() error {
	var err error
	if h.ns, err = newNetNS(); err != nil {
		return err
	}
	if h.nl, err = netlink.NewHandleAt(netns.NsHandle(h.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
		return err
	}
	return h.writeSysctl("net/ipv6/conf/all/disable_ipv6", "1")
}
