//go:build linux

package lab

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ConnectCut is Connect with the cable cut in the middle. It also returns the two
// ends at the cut, first that of the cable to a. The caller connects the hosts by
// reading packets from one end and sending them from the other.
//
// The hosts need no ARP and no neighbour discovery to send, and nothing at the cut
// says anything by itself. The ends cannot be ports of a bridge, and Settle does not
// wait for what is under way between them.
func (l *Lab) ConnectCut(a, b *Host, prefixes ...string) (atA, atB *Link, cut [2]*Link) {
	atA, atB = &Link{Host: a, cut: true}, &Link{Host: b, cut: true}
	atA.Peer, atB.Peer = atB, atA
	// No name that the lab's user could have chosen.
	between := &Host{Name: a.Name + "~" + b.Name, lab: l}
	cut = [2]*Link{{Host: between, Peer: atA}, {Host: between, Peer: atB}}
	l.Step(fmt.Sprintf("connect %q and %q, cut", a.Name, b.Name), func() error {
		if a == b || a.lab != l || b.lab != l {
			return errors.New("a cable needs two hosts of this lab")
		}
		l.hosts = append(l.hosts, between) // before anything can fail, so that Close finds it
		if err := between.beSilent(); err != nil {
			return err
		}
		if err := lay(atA, cut[0], b.Name, a.Name); err != nil {
			return err
		}
		if err := lay(atB, cut[1], a.Name, b.Name); err != nil {
			return err
		}
		if err := address(atA, atB, prefixes); err != nil {
			return err
		}
		return errors.Join(cut[0].awaitUp(), cut[1].awaitUp())
	})
	return atA, atB, cut
}

// beSilent makes a host that takes part in nothing: it has no addresses, and does
// not look for any.
func (h *Host) beSilent() error {
	var err error
	if h.ns, err = newNetNS(); err != nil {
		return err
	}
	if h.nl, err = netlink.NewHandleAt(netns.NsHandle(h.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
		return err
	}
	return h.writeSysctl("net/ipv6/conf/all/disable_ipv6", "1")
}
