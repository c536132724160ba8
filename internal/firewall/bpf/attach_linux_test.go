package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/key"
	"postern/internal/lab"
)

// eachHook runs a test with tcx, and as on a kernel that has only clsact.
func eachHook(t *testing.T, test func(t *testing.T)) {
	needBPF(t)
	t.Run("tcx", func(t *testing.T) {
		if !tcxSupported() {
			t.Skip("this kernel has no tcx")
		}
		test(t)
	})
	t.Run("clsact", func(t *testing.T) {
		onlyClsact = true
		defer func() { onlyClsact = false }()
		test(t)
	})
}

// A site is a server with two interfaces, a client behind each, and two devices.
type site struct {
	t      testing.TB
	lab    *lab.Lab
	server *lab.Host
	links  []*lab.Link // of the server
	c      Config
	people []Device
}

func newSite(t *testing.T) *site {
	t.Helper()
	needBPF(t)
	s := &site{t: t, lab: lab.NewT(t)}
	s.server = s.lab.Host("server")
	for i := range 2 {
		_, at := s.lab.Connect(s.lab.Host(fmt.Sprintf("client%d", i)), s.server,
			fmt.Sprintf("192.0.%d.0/24", 2+i), fmt.Sprintf("2001:db8:%d::/64", i))
		s.links = append(s.links, at)
	}
	s.c = Config{Site: key.NewSite(), Port: port, Window: key.DefaultWindow}
	s.people = []Device{
		{ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors},
		{ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors},
	}
	return s
}

func (s *site) do(f func() error) {
	s.t.Helper()
	if err := s.server.Do(f); err != nil {
		s.t.Fatal(err)
	}
}

// find returns what is attached on the server. It is closed with the test.
func (s *site) find() (r *Running) {
	s.t.Helper()
	s.do(func() (err error) { r, err = Find(); return err })
	s.t.Cleanup(r.Close)
	return r
}

func (s *site) load(running *Running) *Program {
	s.t.Helper()
	p, err := Load(s.c, s.people, running)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Close)
	return p
}

// attach attaches to some of the server's interfaces.
func (s *site) attach(p *Program, names ...string) {
	s.t.Helper()
	s.do(func() error {
		var indexes []int
		for _, name := range names {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			indexes = append(indexes, l.Attrs().Index)
		}
		return p.Attach(indexes...)
	})
}

func (s *site) detach() { s.t.Helper(); s.do(Detach) }

// attached checks on which interfaces the server verifies tokens.
func (s *site) attached(what string, names ...string) {
	s.t.Helper()
	var got []string
	for _, i := range s.find().Interfaces() {
		if i.Attached {
			got = append(got, i.Name)
		}
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		s.t.Errorf("%s: attached to %q, want %q", what, got, names)
	}
}

// nothing checks that the server is as it was before anything was attached.
func (s *site) nothing(what string) {
	s.t.Helper()
	s.attached(what)
	s.do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if here, err := (tcx{}).programs(l); err != nil && !errors.Is(err, unix.EINVAL) || len(here) > 0 {
				s.t.Errorf("%s: %s has programs %v (%v)", what, l.Attrs().Name, here, err)
			}
			all, err := netlink.QdiscList(l)
			if err != nil {
				return err
			}
			for _, q := range all {
				if q.Type() == "clsact" {
					s.t.Errorf("%s: %s has a clsact", what, l.Attrs().Name)
				}
			}
		}
		return nil
	})
}

func TestAttach(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		s := newSite(t)
		a, b := s.links[0].Name, s.links[1].Name
		if s.find().Loaded() {
			t.Fatal("loaded before anything is")
		}
		s.detach() // of nothing

		first := s.load(nil)
		s.attach(first, a)
		s.attached("on one", a)
		s.attach(first, a)
		s.attached("again", a)
		s.attach(first, a, b)
		s.attached("on two", a, b)
		first.Close()
		s.attached("without the process", a, b)

		second := s.load(s.find())
		s.attach(second, b)
		s.attached("replaced, and on one", b)
		if r := s.find(); len(r.instances) != 1 || r.instances[0].id != second.id {
			t.Errorf("%d programs, want only %d", len(r.instances), second.id)
		}
		s.attach(second)
		s.nothing("on none")

		s.attach(second, a, b)
		s.detach()
		s.nothing("detached")
		s.detach()
	})
}

// TestInterfacesChange: a program stays with its interface, however that is called,
// and goes with it.
func TestInterfacesChange(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		s := newSite(t)
		a, b := s.links[0].Name, s.links[1].Name
		p := s.load(nil)
		s.attach(p, a, b)
		rename := func(from, to string) {
			s.do(func() error {
				l, err := netlink.LinkByName(from)
				if err != nil {
					return err
				}
				if err := netlink.LinkSetDown(l); err != nil { // before Linux 6.2 it has to be
					return err
				}
				if err := netlink.LinkSetName(l, to); err != nil {
					return err
				}
				return netlink.LinkSetUp(l)
			})
		}
		rename(a, "wan")
		s.attached("renamed", "wan", b)

		s.lab.ConnectAs(s.server, s.lab.Host("peer"), "ppp0", "eth0")
		s.attached("a new one is bare", "wan", b)
		s.attach(p, "wan", b, "ppp0")
		s.attached("attached to it", "wan", b, "ppp0")
		var gone int
		s.do(func() error {
			l, err := netlink.LinkByName("ppp0")
			if err != nil {
				return err
			}
			gone = l.Attrs().Index
			return netlink.LinkDel(l)
		})
		s.attached("it went", "wan", b)
		s.do(func() error { return p.Attach(gone, s.index("wan")) })
		s.attached("one that is gone is left out", "wan")
		s.detach()
		s.nothing("detached")
	})
}

// index returns the index of an interface, on the host of the thread.
func (s *site) index(name string) int {
	l, err := netlink.LinkByName(name)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	return l.Attrs().Index
}

// foreign loads somebody else's program, which answers the same to every packet.
func foreign(t testing.TB, answer int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm32(asm.R0, answer), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestForeignPrograms: others' programs stay what and where they are. Ours runs
// before those that were there, also if they let nothing run after them.
func TestForeignPrograms(t *testing.T) {
	const ok = 0 // TC_ACT_OK: nothing runs after it
	t.Run("tcx", func(t *testing.T) {
		needBPF(t)
		if !tcxSupported() {
			t.Skip("this kernel has no tcx")
		}
		s := newSite(t)
		a := s.links[0].Name
		before, after := foreign(t, ok), foreign(t, next)
		put := func(p *ebpf.Program, at link.Anchor) {
			s.do(func() error {
				return link.RawAttachProgram(link.RawAttachProgramOptions{
					Target: s.index(a), Program: p, Attach: ebpf.AttachTCXIngress, Anchor: at,
				})
			})
		}
		order := func() (text string) {
			s.do(func() error {
				l, err := netlink.LinkByName(a)
				if err != nil {
					return err
				}
				all, err := tcx{}.programs(l)
				for _, at := range all {
					i, err := open(at.id)
					if err != nil {
						return err
					}
					if i != nil {
						text += "ours "
						i.Close()
					} else {
						text += "theirs "
					}
				}
				return err
			})
			return strings.TrimSpace(text)
		}
		put(before, link.Tail())
		s.attach(s.load(nil), a)
		if got := order(); got != "ours theirs" {
			t.Errorf("attached after another: %s", got)
		}
		put(after, link.Tail())
		s.attach(s.load(s.find()), a)
		if got := order(); got != "ours theirs theirs" {
			t.Errorf("replaced: %s", got)
		}
		s.detach()
		if got := order(); got != "theirs theirs" {
			t.Errorf("detached: %s", got)
		}
	})
	t.Run("clsact", func(t *testing.T) {
		needBPF(t)
		onlyClsact = true
		defer func() { onlyClsact = false }()
		for _, kind := range []string{"bpf", "u32", "egress", "empty"} {
			t.Run(kind, func(t *testing.T) {
				s := newSite(t)
				a := s.links[0].Name
				list := func(parent uint32) (all []netlink.Filter) {
					s.do(func() error {
						l, err := netlink.LinkByName(a)
						if err != nil {
							return err
						}
						all, err = netlink.FilterList(l, parent)
						return err
					})
					return all
				}
				theirs := netlink.FilterAttrs{Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL}
				count := 1
				s.do(func() error {
					theirs.LinkIndex = s.index(a)
					if err := netlink.QdiscAdd(qdisc(theirs.LinkIndex)); err != nil {
						return err
					}
					switch kind {
					case "egress":
						theirs.Parent = netlink.HANDLE_MIN_EGRESS
						fallthrough
					case "bpf":
						return netlink.FilterAdd(&netlink.BpfFilter{FilterAttrs: theirs, Fd: foreign(t, ok).FD(), Name: "theirs", DirectAction: true})
					case "u32":
						theirs.Handle = 0
						return netlink.FilterAdd(&netlink.U32{FilterAttrs: theirs, ClassId: netlink.MakeHandle(1, 1)})
					}
					count = 0
					return nil
				})
				s.attach(s.load(nil), a)
				s.attached("beside theirs", a)
				s.attach(s.load(s.find()), a)
				s.attached("replaced", a)
				if kind == "bpf" {
					if first, ok := list(netlink.HANDLE_MIN_INGRESS)[0].(*netlink.BpfFilter); !ok || first.Name != filterName {
						t.Errorf("%v runs first", first)
					}
				}
				s.detach()
				if n := len(list(theirs.Parent)); n != count {
					t.Errorf("%d filters of others are left, want %d", n, count)
				}
				s.do(func() error {
					err := netlink.QdiscAdd(qdisc(s.index(a)))
					if !errors.Is(err, unix.EEXIST) {
						t.Errorf("their clsact is gone: %v", err)
					}
					return nil
				})
			})
		}
	})
}

// TestHooksChange: a program that was attached by one hook is replaced by way of the
// other.
func TestHooksChange(t *testing.T) {
	needBPF(t)
	if !tcxSupported() {
		t.Skip("this kernel has no tcx")
	}
	s := newSite(t)
	a, b := s.links[0].Name, s.links[1].Name
	onlyClsact = true
	defer func() { onlyClsact = false }()
	s.attach(s.load(nil), a, b)
	onlyClsact = false
	p := s.load(s.find())
	s.attach(p, a)
	s.attached("by tcx", a)
	if r := s.find(); len(r.places) != 1 || r.places[0].hook != (tcx{}) || r.places[0].id != p.id {
		t.Errorf("%v", r.places)
	}
	s.detach()
	s.nothing("detached")
}
