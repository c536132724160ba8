package bpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestDetachedMeanwhile: a program that others have detached since it was found is no reason to
// fail, whether it is to be replaced or detached, and whether programs of others are left there.
func TestDetachedMeanwhile(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		for name, alone := range map[string]bool{"alone": true, "beside others": false} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t)
				a, b := s.links[0].Name, s.links[1].Name
				if !alone {
					s.accompany(a)
					s.accompany(b)
				}
				s.attach(s.load(nil), a, b)
				before := s.find()
				second := s.load(before)
				s.detach()
				s.do(func() error { return second.replace(hooks()[0], s.index(a), before.places) })
				s.attached("replaced after it was detached", a)
				s.detach()
				for _, at := range before.places {
					s.do(func() error { return at.hook.detach(at) })
				}
				s.attached("detached twice")
				if alone {
					s.nothing("detached twice")
				}
			})
		}
	})
}

// accompany attaches a program of others to an interface.
func (s *site) accompany(name string) {
	s.t.Helper()
	theirs := foreign(s.t, next)
	s.do(func() error {
		index := s.index(name)
		if !onlyClsact {
			return link.RawAttachProgram(link.RawAttachProgramOptions{Target: index, Program: theirs, Attach: ebpf.AttachTCXIngress})
		}
		return errors.Join(netlink.QdiscAdd(qdisc(index)), netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 7, Protocol: unix.ETH_P_ALL,
			},
			Fd: theirs.FD(), Name: "theirs", DirectAction: true,
		}))
	})
}

// TestHookGoneMeanwhile: the same for a program that was attached by the hook that is not used
// any more.
func TestHookGoneMeanwhile(t *testing.T) {
	needBPF(t)
	if !tcxSupported() {
		t.Skip("this kernel has no tcx")
	}
	s := newSite(t)
	a := s.links[0].Name
	onlyClsact = true
	defer func() { onlyClsact = false }()
	s.attach(s.load(nil), a)
	onlyClsact = false
	before := s.find()
	p := s.load(before)
	s.detach()
	s.do(func() error { return p.replace(tcx{}, s.index(a), before.places) })
	s.attached("by the other hook", a)
}

// TestClsactChangesMeanwhile: others may take away the clsact, or the place of the filter, just
// before the filter is added or replaced.
func TestClsactChangesMeanwhile(t *testing.T) {
	needBPF(t)
	onlyClsact = true
	defer func() { onlyClsact, meanwhile = false, func(int) {} }()
	for _, replaces := range []bool{false, true} {
		for name, act := range map[string]func(index int) error{
			"clsact gone": func(index int) error { return netlink.QdiscDel(qdisc(index)) },
			"place taken": func(index int) error {
				// Nothing is left of ours, and theirs is of its priority.
				if err := errors.Join(netlink.QdiscDel(qdisc(index)), netlink.QdiscAdd(qdisc(index))); err != nil {
					return err
				}
				return netlink.FilterAdd(&netlink.U32{
					FilterAttrs: netlink.FilterAttrs{
						LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL,
					},
					ClassId: netlink.MakeHandle(1, 1),
				})
			},
		} {
			what := "added"
			if replaces {
				what = "replaced"
			}
			t.Run(name+", "+what, func(t *testing.T) {
				s := newSite(t)
				a := s.links[0].Name
				if replaces {
					s.attach(s.load(nil), a)
				}
				p := s.load(s.find())
				acts := 0
				meanwhile = func(index int) {
					if acts++; acts > 1 {
						return
					}
					if err := act(index); err != nil {
						t.Error(err)
					}
				}
				s.attach(p, a)
				meanwhile = func(int) {}
				s.attached("attached", a)
				if acts < 2 {
					t.Errorf("it was done in %d attempts", acts)
				}
				if r := s.find(); len(r.places) != 1 || r.places[0].id != p.id {
					t.Errorf("%v", r.places)
				}
			})
		}
	}
}

// TestTwoOfOurs: if two of our programs are attached to one interface, one takes the place of
// both.
func TestTwoOfOurs(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		s := newSite(t)
		a := s.links[0].Name
		first, second := s.load(nil), s.load(nil)
		s.attach(first, a)
		s.do(func() error {
			index := s.index(a)
			if !onlyClsact {
				return tcx{}.attach(index, &second.instance, nil)
			}
			return netlink.FilterAdd(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{
					LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: filterHandle, Priority: 2, Protocol: unix.ETH_P_ALL,
				},
				Fd: second.program.FD(), Name: filterName, DirectAction: true,
			})
		})
		for _, p := range []*Program{first, s.load(s.find())} { // one of the two, and then another
			if r := s.find(); p == first && len(r.places) != 2 {
				t.Fatalf("attached twice: %v", r.places)
			}
			s.attach(p, a)
			if r := s.find(); len(r.places) != 1 || r.places[0].id != p.id {
				t.Errorf("%v, want only %d", r.places, p.id)
			}
		}
		s.detach()
		s.nothing("detached")
	})
}
