//go:build linux

package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

// background is for what the end of the process must end.
var background = context.Background()

// nobody is an ordinary user.
const nobody = 65534

// The two ways in which players runs a test.
const (
	same     = "same_user"
	ordinary = "ordinary_user"
)

// players runs a test with its own binary as it runs itself, and, if that is
// as root, as an ordinary user as well.
//
// As an ordinary user it is two processes, of which the test sees the outer.
func players(t *testing.T, test func(t *testing.T, start func(part string) *exec.Cmd)) {
	start := func(part string) *exec.Cmd {
		cmd := exec.CommandContext(soon(t), "/proc/self/exe")
		cmd.Env = append(os.Environ(), role+"="+part)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		return cmd
	}
	t.Run(same, func(t *testing.T) { test(t, start) })
	if lab.RealRoot() {
		t.Run(ordinary, func(t *testing.T) {
			test(t, func(part string) *exec.Cmd {
				cmd := start(part)
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
				return cmd
			})
		})
	}
}

// All other tests pass for an ordinary user, too.
func TestOrdinaryUser(t *testing.T) {
	if !lab.RealRoot() {
		t.Skip("run by an ordinary user already: every test is this one")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.skip=^TestOrdinaryUser$",
		"-test.timeout=4m")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestPingPong") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestExitCode(t *testing.T) {
	players(t, func(t *testing.T, start func(string) *exec.Cmd) {
		cmd := start("exit")
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 7 {
			t.Errorf("exit code %d, want 7", code)
		}
		cmd = start("die")
		cmd.Run()
		if s := cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGTERM {
			t.Errorf("ended as %v, want by SIGTERM", cmd.ProcessState)
		}
	})
}

// Whatever ends the process, its namespaces and all programs in them go.
func TestNothingLeftBehind(t *testing.T) {
	ends := map[string]func(cmd *exec.Cmd, stdin io.Closer){
		"kill -9":   func(cmd *exec.Cmd, _ io.Closer) { cmd.Process.Signal(syscall.SIGKILL) },
		"interrupt": func(cmd *exec.Cmd, _ io.Closer) { cmd.Process.Signal(syscall.SIGINT) },
		"hangup":    func(cmd *exec.Cmd, _ io.Closer) { cmd.Process.Signal(syscall.SIGHUP) },
		"panic":     func(_ *exec.Cmd, stdin io.Closer) { stdin.Close() },
	}
	before := links(t)
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			players(t, func(t *testing.T, start func(string) *exec.Cmd) {
				part := "hold"
				if name == "panic" {
					part = "panic"
				}
				cmd := start(part)
				stdin, _ := cmd.StdinPipe()
				stdout, _ := cmd.StdoutPipe()
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				var spaces []string
				for lines := bufio.NewScanner(stdout); len(spaces) < 2 && lines.Scan(); {
					spaces = append(spaces, lines.Text())
				}
				if len(spaces) < 2 || len(users(t, spaces)) == 0 {
					t.Fatalf("namespaces %q, used by %q", spaces, users(t, spaces))
				}
				end(cmd, stdin)
				cmd.Wait()
				// The kernel kills in the background.
				for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					left := users(t, spaces)
					if len(left) == 0 {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("still there: %q", left)
					}
				}
			})
		})
	}
	if after := links(t); !slices.Equal(before, after) {
		t.Errorf("links before %q, after %q", before, after)
	}
}

// namespaceOf returns the kernel's name of a host's namespace.
func namespaceOf(h *lab.Host) string {
	name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", h.NetNS()))
	return name
}

// users returns everything in /proc that has one of the namespaces: processes,
// their threads, and the files they have open.
func users(t *testing.T, spaces []string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/proc/[0-9]*/task/*/ns/net", "/proc/[0-9]*/fd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if name, err := os.Readlink(path); err == nil && slices.Contains(spaces, name) {
				found = append(found, path)
			}
		}
	}
	return found
}

func links(t *testing.T) []string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}

// Ctrl-C at the terminal interrupts once, and kill -INT does, too.
func TestInterrupt(t *testing.T) {
	players(t, func(t *testing.T, start func(string) *exec.Cmd) {
		for _, how := range []string{"Ctrl-C", "kill"} {
			t.Run(how, func(t *testing.T) {
				cmd := start("count")
				stdout, _ := cmd.StdoutPipe()
				cmd.SysProcAttr.Setsid = true
				var keyboard *os.File
				if how == "Ctrl-C" {
					var tty *os.File
					keyboard, tty = terminal(t)
					cmd.Stdin, cmd.SysProcAttr.Setctty = tty, true
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(stdout)
				lines.Scan() // ready
				switch {
				case how == "kill":
					cmd.Process.Signal(syscall.SIGINT)
					lines.Scan() // interrupted
				case strings.Contains(t.Name(), same):
					keyboard.Write([]byte{3})
					lines.Scan()
				default:
					// The outer process gets its interrupt only when the
					// inner has had its own, so that a second would be seen.
					cmd.Process.Signal(syscall.SIGSTOP)
					keyboard.Write([]byte{3})
					lines.Scan()
					cmd.Process.Signal(syscall.SIGCONT)
				}
				cmd.Process.Signal(syscall.SIGTERM)
				lines.Scan()
				if got := lines.Text(); got != "more: 0" {
					t.Errorf("got %q, want %q", got, "more: 0")
				}
				cmd.Wait()
				if code := cmd.ProcessState.ExitCode(); code != 3 {
					t.Errorf("ended as %v, want exit code 3", cmd.ProcessState)
				}
			})
		}
	})
}

// terminal returns the two ends of a pseudo terminal.
func terminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return keyboard, tty
}

// Where the machine forbids it the error names the setting, and the program
// ends with 5. A user namespace has limits of its own to try it with.
func TestForbidden(t *testing.T) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.CommandContext(soon(t), "sh", "-c", "echo 0 >/proc/sys/user/max_net_namespaces && exec /proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 || !strings.Contains(string(out), "sysctl user.max_net_namespaces=") {
		t.Errorf("%v: %s", err, out)
	}
}
