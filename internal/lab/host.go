//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"postern/internal/descriptor"
	"postern/internal/lazyregexp"
)

// A Host is one machine of the lab: a network namespace with a network stack,
// rule sets and sysctls of its own. It starts with a loopback interface only.
type Host struct {
	Name string

	lab *Lab
	ns  *os.File        // the namespace; nil if it could not be made
	nl  *netlink.Handle // used by steps only: the lab's lock guards it
}

// A host's name becomes the name of its neighbours' interfaces, which have
// room for 15 octets; three are left for a number.
var hostName = lazyregexp.New(`^[a-z][a-z0-9-]{0,11}$`)

// Host adds a host. Its name must be unique in the lab: lower-case letters,
// digits and dashes, at most 12. At the other end of a cable the interface
// that leads to this host has its name.
func (l *Lab) Host(name string) *Host {
	h := &Host{Name: name, lab: l}
	l.Step(fmt.Sprintf("host %q", name), func() error {
		switch {
		case !hostName().MatchString(name):
			return errors.New("a name is a lower-case letter and up to 11 letters, digits or dashes")
		case name == "lo" || name == "all" || name == "default":
			return errors.New("the kernel uses this name for interfaces of its own")
		case slices.ContainsFunc(l.hosts, func(o *Host) bool { return o.Name == name }):
			return errors.New("there is already one of this name")
		}
		l.hosts = append(l.hosts, h) // before anything can fail, so that Close finds it
		var err error
		if h.ns, err = newNetNS(); err != nil {
			return err
		}
		if h.nl, err = netlink.NewHandleAt(netns.NsHandle(h.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
			return err
		}
		return h.settings()
	})
	return h
}

// settings makes a new host alike on every machine: some kernels hand down the
// settings of the machine's own network. Nothing here is about Postern; it
// makes addresses usable at once and keeps chatter off the wires.
func (h *Host) settings() error {
	for _, s := range []struct{ path, value string }{
		{"net/ipv6/conf/all/disable_ipv6", "0"},
		{"net/ipv6/conf/default/disable_ipv6", "0"},
		{"net/ipv6/conf/lo/disable_ipv6", "0"},
		// Duplicate address detection holds an address back for a second.
		// It is skipped only where both values say so.
		{"net/ipv6/conf/all/accept_dad", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/conf/default/accept_ra", "0"},
		{"net/ipv6/conf/default/router_solicitations", "0"},
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv4/ip_forward", "0"},
		{"net/ipv6/conf/all/forwarding", "0"},
	} {
		if err := h.writeSysctl(s.path, s.value); err != nil {
			if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s.path, "net/ipv6") {
				return fmt.Errorf("the kernel has no IPv6 (boot without ipv6.disable=1): %w", err)
			}
			return err
		}
	}
	lo, err := h.nl.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.nl.LinkSetUp(lo)
}

// Sysctl sets a setting of the host, as sysctl(8) does: "net.ipv4.ip_forward".
// Only what is below net is a host's own; the rest is the machine's and is an
// error.
func (h *Host) Sysctl(name, value string) {
	h.lab.Step(fmt.Sprintf("host %q: sysctl %s=%s", h.Name, name, value), func() error {
		path := strings.ReplaceAll(name, ".", "/")
		if !strings.HasPrefix(path, "net/") || strings.Contains(path, "//") {
			return errors.New("only settings below net. belong to a host")
		}
		return h.writeSysctl(path, value)
	})
}

func (h *Host) writeSysctl(path, value string) error {
	return inNetNS(h.ns, func() error {
		f, err := openSysctl(path)
		if err != nil {
			return err
		}
		_, err = f.WriteString(value)
		return errors.Join(err, f.Close())
	})
}

// openSysctl opens a setting of the thread's network namespace for writing. A
// container's /proc/sys is often read-only, though the namespace is ours: then the
// setting is opened in a proc of our own, which is mounted nowhere. An ordinary user
// may not make one; the error is the first one then.
func openSysctl(path string) (*os.File, error) {
	// Not WriteFile: a setting that does not exist must not be created.
	f, readOnly := os.OpenFile("/proc/sys/"+path, os.O_WRONLY, 0)
	if !errors.Is(readOnly, unix.EROFS) {
		return f, readOnly
	}
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, readOnly
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, readOnly
	}
	proc, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, readOnly
	}
	defer unix.Close(proc)
	fd, err := unix.Openat(proc, "sys/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc/sys/" + path, Err: err}
	}
	return os.NewFile(uintptr(fd), "/proc/sys/"+path), nil
}

// Do calls f on a thread of the host: sockets it opens, sysctls it reads and
// programs it starts are the host's. Afterwards the goroutine is back where it
// was; calls may be nested.
//
// A goroutine that f starts is not on the host. That includes those that other
// packages start: net.Dial with a host name looks the name up in one.
func (h *Host) Do(f func() error) error {
	if err := h.lab.usable(); err != nil {
		return err
	}
	return inNetNS(h.ns, f)
}

// NetNS returns the descriptor of the host's namespace, for netlink libraries
// that take one. It is valid until the lab is closed, and must not be closed.
func (h *Host) NetNS() int {
	if h.ns == nil {
		return -1
	}
	return int(h.ns.Fd())
}

// Remove takes the host and its cables away at once, as when a machine is switched off and
// carried out: the other ends vanish too. Its name is free again. Programs that run
// on it must have ended, and captures and senders on its cables are of no use any more.
func (h *Host) Remove() error {
	l := h.lab
	l.settling.Lock()
	defer l.settling.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.hosts, h) {
		return nil // already, or with the lab
	}
	l.hosts = slices.DeleteFunc(l.hosts, func(o *Host) bool { return o == h })
	var errs []error
	gone := func(k *Link) bool { return k.Host == h || k.Peer.Host == h }
	for _, k := range l.cables {
		// Not left to the namespace's end, which the kernel comes to later.
		if k.Host == h {
			errs = append(errs, h.nl.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: k.index}}))
		}
	}
	for _, m := range l.markers {
		if gone(m.link) {
			errs = append(errs, m.close())
		}
	}
	l.markers = slices.DeleteFunc(l.markers, func(m *marker) bool { return gone(m.link) })
	l.cables = slices.DeleteFunc(l.cables, gone)
	return errors.Join(append(errs, h.close())...)
}

func (h *Host) close() error {
	if h.nl != nil {
		h.nl.Close()
	}
	if h.ns == nil {
		return nil
	}
	return h.ns.Close()
}

// currentNetNS opens the network namespace of the calling thread.
func currentNetNS() (*os.File, error) { return os.Open("/proc/thread-self/ns/net") }

// newNetNS makes a network namespace that lives as long as the returned file
// is open.
func newNetNS() (*os.File, error) {
	var ns *os.File
	err := awayFromHome(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		ns, err = currentNetNS()
		return err
	})
	return ns, err
}

// inNetNS calls f on a thread in the namespace.
func inNetNS(ns *os.File, f func() error) error {
	return awayFromHome(func() error {
		err := descriptor.Use(ns, func(fd int) error { return unix.Setns(fd, unix.CLONE_NEWNET) })
		if err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// awayFromHome calls f on a thread that may change its network namespace, and
// brings the thread back, also when f panics or ends its goroutine, as a
// failed test does. A thread that cannot be brought back is never used again:
// its goroutine stays locked to it, and the runtime ends both together.
func awayFromHome(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := currentNetNS()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		home.Close()
		if back != nil {
			err = errors.Join(err, fmt.Errorf("leave a network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}
