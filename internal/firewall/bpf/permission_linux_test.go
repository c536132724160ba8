package bpf

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"postern/internal/firewall"
	"postern/internal/lab"
)

// inside is the variable by which this binary, run once more, knows that it is in a
// user namespace.
const inside = "POSTERN_TEST_INSIDE"

// TestInsideUserNamespace is the other half of TestUserNamespace; on its own it does
// nothing.
func TestInsideUserNamespace(t *testing.T) {
	if os.Getenv(inside) == "" {
		return
	}
	var unsupported *firewall.UnsupportedError
	if err := Probe(); !errors.As(err, &unsupported) || !strings.Contains(unsupported.What, "permission") {
		t.Errorf("Probe: %v", err)
	}
	if err := Detach(); err != nil {
		t.Errorf("Detach: %v", err)
	}
	r, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	if r.Loaded() || len(r.Interfaces()) == 0 {
		t.Errorf("found %v", r)
	}
}

// TestUserNamespace: root of a user namespace may load no program, and is told so.
// There is nothing to detach, which is no error.
func TestUserNamespace(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestInsideUserNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestInside") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTooOld: where the program needs more than the kernel has, Probe says what.
func TestTooOld(t *testing.T) {
	if !lab.RealRoot() {
		t.Skip("only root of the machine may load BPF programs")
	}
	missing := features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetTaiNs)
	var lacks *firewall.UnsupportedError
	switch err := Probe(); {
	case missing == nil && err != nil:
		t.Error(err)
	case missing != nil && (!errors.As(err, &lacks) || !strings.Contains(lacks.What, "clock") || !strings.Contains(lacks.Hint, "6.1")):
		t.Errorf("%v, although %v", err, missing)
	}
}
