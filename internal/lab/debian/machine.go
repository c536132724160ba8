//go:build linux

package debian

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

var enabled = flag.Bool("systemd", false, "run the tests that boot Debian machines")

// A Machine is a Debian system on a host of a lab. Its methods end the test when they
// fail, so the test's own goroutine must call them, and are not safe for concurrent use.
type Machine struct {
	t      testing.TB
	lab    *lab.Lab
	plug   func(*lab.Host)
	layers []string // of the system, read-only, the uppermost first
	disk   string   // the directory of the uppermost layer of all, which is this machine's

	// While it is on:
	host    *lab.Host
	nspawn  *lab.Cmd
	said    *bytes.Buffer // by nspawn
	gone    chan struct{} // closed when nspawn has ended
	groups  []string
	process int // its systemd, as the outside numbers processes
}

// patience is how long a machine may take to boot or to go off. On an idle machine both
// take a second.
const patience = 90 * time.Second

var machines atomic.Int64

// New returns a machine with a fresh disk, which is off. At each boot plug gets the
// host that the machine will run on, to lay its cables. The test is skipped unless
// the flag -systemd is given.
func New(t testing.TB, l *lab.Lab, v Variant, plug func(*lab.Host)) *Machine {
	t.Helper()
	if !*enabled {
		t.Skip("boots a Debian machine; run it with -systemd, or make systemd")
	}
	if !lab.RealRoot() {
		t.Skip("booting a machine needs root of the whole machine")
	}
	for _, tool := range []string{"systemd-nspawn", "debootstrap", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: run scripts/install-test-tools systemd", err)
		}
	}
	layers, err := v.layers()
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.MkdirTemp("", "postern-debian-")
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t, lab: l, plug: plug, layers: layers, disk: disk}
	t.Cleanup(func() {
		t.Helper()
		if t.Failed() {
			t.Logf("the machine's journal:\n%s", m.Journal("-n", "150"))
		}
		m.Cut()
		if err := os.RemoveAll(disk); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range []string{"root", "work", "mnt"} {
		if err := os.Mkdir(filepath.Join(disk, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// Host returns the host that the machine runs on, or nil while it is off.
func (m *Machine) Host() *lab.Host { return m.host }

// Plug connects the machine to the host for its next boot, with its cables. Power does
// it if the test has not, to have something wait on them.
func (m *Machine) Plug() {
	m.t.Helper()
	if m.host != nil {
		m.t.Fatal("the machine has its cables already")
	}
	m.host = m.lab.Host("gw")
	m.plug(m.host)
}

// start runs in the mounts and PID namespace of its own. nspawn wants to write to
// /run.
const start = `mount -t proc proc /proc
mount -t tmpfs run /run
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/root,workdir=$2/work" "$2/mnt"
name=$3
dir=$2/mnt
shift 3
for group; do echo 0 >"$group/cgroup.procs"; done
# The settings below net are the machine's own. nspawn lets nobody call bpf(2) by itself.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --boot --register=no --keep-unit --directory="$dir" --machine="$name" --hostname=gw \
	--network-namespace-path=/proc/self/ns/net --capability=CAP_NET_ADMIN --system-call-filter=bpf --console=pipe \
	--resolv-conf=off --timezone=off --link-journal=no`

// Power switches the machine on, and returns while it boots.
func (m *Machine) Power() {
	m.t.Helper()
	if m.nspawn != nil {
		m.t.Fatal("the machine is on")
	}
	if m.host == nil {
		m.Plug()
	}
	name := groupName(os.Getpid(), machines.Add(1))
	groups, err := cgroups(name)
	if err != nil {
		m.t.Fatal(err)
	}
	m.groups = groups
	args := append([]string{"-euc", start, "sh", strings.Join(m.layers, ":"), m.disk, name}, groups...)
	cmd := m.host.Command(context.Background(), "sh", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	m.said = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = m.said, m.said
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		cmd.Wait()
		close(gone)
	}()
	m.nspawn, m.gone = cmd, gone
	m.await("systemd has not started", func() bool {
		m.process = m.init()
		return m.process != 0
	})
}

// On switches the machine on and waits until it has booted, as Login does.
func (m *Machine) On() {
	m.t.Helper()
	m.Power()
	m.Login()
}

// Login waits until the machine has booted: every service has started or failed, and
// users can log in.
func (m *Machine) Login() {
	m.t.Helper()
	m.await("it has not booted", func() bool {
		state, _ := m.Try("systemctl is-system-running --wait")
		return strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded")
	})
}

// await waits until it is so, and ends the test if the machine goes off before, or
// when it takes too long.
func (m *Machine) await(failure string, so func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !so(); {
		select {
		case <-m.gone:
			m.t.Fatalf("%s: the machine has gone off\n%s", failure, m.said)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s after %s", failure, patience)
		}
	}
}

// init returns the number of the machine's first process, or 0 as long as it
// does not run systemd.
func (m *Machine) init() int {
	parent := m.nspawn.Process.Pid
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	for _, child := range strings.Fields(string(children)) {
		program, _ := os.Readlink("/proc/" + child + "/exe")
		if filepath.Base(program) == "systemd" {
			pid, _ := strconv.Atoi(child)
			return pid
		}
	}
	return 0
}

// Off switches the machine off, as systemctl poweroff does.
func (m *Machine) Off() {
	m.t.Helper()
	m.Run("systemctl poweroff")
	select {
	case <-m.gone:
	case <-time.After(patience):
		m.t.Fatalf("the machine has not gone off after %s", patience)
	}
	m.removed()
}

// Cut kills all processes of the machine at once. A machine that is off stays off.
func (m *Machine) Cut() {
	m.t.Helper()
	if m.nspawn != nil {
		// The first process of the PID namespace that all others are in.
		m.nspawn.Process.Kill()
		<-m.gone
	}
	m.removed()
}

// removed takes away what the machine ran on.
func (m *Machine) removed() {
	m.t.Helper()
	var errs []error
	for _, dir := range m.groups {
		// The kernel has reaped every process, but may still be leaving the group.
		err := removeGroup(dir)
		for range 100 {
			if err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
			err = removeGroup(dir)
		}
		errs = append(errs, err)
	}
	if m.host != nil {
		errs = append(errs, m.host.Remove())
	}
	m.host, m.nspawn, m.groups, m.process = nil, nil, nil, 0
	if err := errors.Join(errs...); err != nil {
		m.t.Error(err)
	}
}

// Reboot switches the machine off and on again, and waits until it has booted.
func (m *Machine) Reboot() {
	m.t.Helper()
	m.Off()
	m.On()
}
