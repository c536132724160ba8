package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/cli/ui"
	"postern/internal/demo"
	"postern/internal/lab"
)

// buildDemo builds the program where an ordinary user may run it.
func buildDemo(t *testing.T) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern-demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "postern")
	if out, err := exec.Command("go", "build", "-o", path, "postern/cmd/postern").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// demoUsers are those who run the demo: the user of the test, and if that is
// root an ordinary user, too.
func demoUsers() map[string]*syscall.Credential {
	users := map[string]*syscall.Credential{"same user": nil}
	if lab.RealRoot() {
		users["ordinary user"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return users
}

// demoCmd runs the demo with a mark in its environment, which everything that
// it starts inherits.
func demoCmd(t *testing.T, path string, user *syscall.Credential, args ...string) (cmd *exec.Cmd, mark string) {
	mark = "POSTERN_DEMO_TEST=" + strconv.Itoa(os.Getpid()) + " " + t.Name()
	cmd = exec.CommandContext(t.Context(), path, append([]string{"demo"}, args...)...)
	cmd.Dir = "/"
	// No PATH: it must not need another program.
	cmd.Env = []string{mark, "PATH=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	return cmd, mark
}

// place is what of the machine the demo must leave as it was.
func place(t *testing.T) []string {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, i := range interfaces {
		all = append(all, "link "+i.Name)
	}
	named, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, n := range named {
		all = append(all, "netns "+n.Name())
	}
	return all
}

// marked returns the processes with a mark.
func marked(t *testing.T, mark string) (found []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(paths) == 0 {
		t.Fatal("no processes at all", err)
	}
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil && slices.Contains(strings.Split(string(b), "\x00"), mark) {
			found = append(found, filepath.Dir(path))
		}
	}
	return found
}

func TestDemo(t *testing.T) {
	t.Parallel()
	path := buildDemo(t)
	before := place(t)
	t.Run("users", func(t *testing.T) {
		for name, user := range demoUsers() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				t.Run("told", func(t *testing.T) {
					t.Parallel()
					cmd, mark := demoCmd(t, path, user)
					var out, talk bytes.Buffer
					cmd.Stdout, cmd.Stderr = &out, &talk
					began := time.Now()
					if err := cmd.Run(); err != nil || talk.Len() > 0 {
						t.Fatalf("%v\n%s%s", err, &talk, &out)
					}
					if took := time.Since(began); took > 30*time.Second {
						t.Errorf("it took %s", took)
					}
					if !strings.Contains(out.String(), "checks hold.") {
						t.Errorf("got\n%s", &out)
					}
					if left := marked(t, mark); len(left) > 0 {
						t.Errorf("still running: %q", left)
					}
				})
				t.Run("json", func(t *testing.T) {
					t.Parallel()
					cmd, _ := demoCmd(t, path, user, "--json")
					out, err := cmd.Output()
					if err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
					var report demo.Report
					if err := json.Unmarshal(out, &report); err != nil || !report.OK || report.Note != demo.Note {
						t.Errorf("%v\n%s", err, out)
					}
				})
				t.Run("interrupted", func(t *testing.T) {
					t.Parallel()
					demoInterrupted(t, path, user)
				})
			})
		}
		t.Run("read-only settings", func(t *testing.T) {
			t.Parallel()
			demoReadOnly(t, path)
		})
	})
	if after := place(t); !slices.Equal(before, after) {
		t.Errorf("before %q, after %q", before, after)
	}
	t.Run("unavailable", func(t *testing.T) { demoUnavailable(t, path) })
	t.Run("usage", func(t *testing.T) { demoUsage(t, path) })
}

// demoInterrupted interrupts the demo while it waits, and then nothing is left.
func demoInterrupted(t *testing.T, path string, user *syscall.Credential) {
	cmd, mark := demoCmd(t, path, user)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var talk bytes.Buffer
	cmd.Stderr = &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "Waiting for") {
	}
	if len(marked(t, mark)) == 0 {
		t.Fatal("the mark does not show on a process that runs")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != ui.CodeInterrupted || talk.String() != "postern: error: interrupted\n" {
		t.Errorf("exit code %d, want %d: %s", code, ui.CodeInterrupted, &talk)
	}
	if left := marked(t, mark); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
}

// demoUnavailable: where there are no namespaces the demo says what to
// do about it. A user namespace has limits of its own to try it with.
func demoUnavailable(t *testing.T, path string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c",
		`echo 0 >/proc/sys/user/max_net_namespaces && exec "$0" demo`, path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != ui.CodeUnsupported || out.Len() > 0 ||
		!strings.Contains(talk.String(), "postern: hint: as root: sysctl user.max_net_namespaces=") {
		t.Errorf("exit code %d, want %d\n%s%s", code, ui.CodeUnsupported, &talk, &out)
	}
}

// demoReadOnly: a container's /proc/sys is read-only. Root runs the demo all the
// same; others are told why it cannot be.
func demoReadOnly(t *testing.T, path string) {
	t.Helper()
	if !lab.RealRoot() {
		t.Skip("/proc/sys can be made read-only by root of the machine alone: run this as root")
	}
	const script = `mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"`
	for _, test := range []struct {
		as   []string
		code int
		want string
	}{
		{nil, 0, "checks hold."},
		{[]string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}, ui.CodeUnsupported,
			"/proc/sys is read-only, as in most containers\npostern: hint: run it outside, or run the container with --privileged\n"},
	} {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", slices.Concat([]string{"-c", script, "sh"}, test.as, []string{path, "demo"})...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
			t.Errorf("%q: exit code %d, want %d and %q\n%s", test.as, code, test.code, test.want, out)
		}
	}
}

// demoUsage: the demo takes nothing, and says so.
func demoUsage(t *testing.T, path string) {
	t.Helper()
	for _, args := range [][]string{{"-f", "policy.yaml"}, {"ssh"}} {
		cmd, _ := demoCmd(t, path, nil, args...)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != ui.CodeUsage {
			t.Errorf("%q: %v, want exit code %d\n%s", args, err, ui.CodeUsage, out)
		}
	}
}
