package cli

import (
	"bufio"
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/change"
	"postern/internal/firewall/backends"
)

var kills = flag.Int("kills", 9, "how often TestRollbackKilled and TestRollbackOverSSH kill something")

// The policies of these tests: other knocks hide the same port, also from those who
// know the first ones.
var (
	goodPolicy = hiddenSSH
	badPolicy  = strings.Replace(hiddenSSH, "1234", "4321", 1)
)

// newRollback has the server run goodPolicy; badPolicy is at bad.yaml.
func newRollback(t *testing.T) *hideout {
	t.Helper()
	h := newHideout(t, goodPolicy)
	h.write(t, "bad.yaml", badPolicy)
	t.Cleanup(func() {
		for _, pid := range h.agents(t) {
			unix.Kill(pid, unix.SIGKILL)
		}
	})
	return h
}

// lasting is a verb on the server. What it leaves behind outlives it, as on a host of
// its own; that of serverCommand does not.
func (h *hideout) lasting(args ...string) *exec.Cmd {
	cmd := exec.Command(h.path("bin/postern"), args...)
	cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+h.path("state"), "RUNTIME_DIRECTORY="+h.path("run"), "TERM=xterm", "NO_COLOR=")
	return cmd
}

// start starts a command on the server.
func (h *hideout) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := h.server.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
}

// processes returns those of the server's "postern" that have a word among their
// arguments.
func (h *hideout) processes(t *testing.T, word string) (pids []int) {
	t.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		words := func(file string) []string {
			text, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), file)) // or it has ended
			return strings.Split(string(text), "\x00")
		}
		if slices.Contains(words("cmdline"), word) && slices.Contains(words("environ"), "RUNTIME_DIRECTORY="+h.path("run")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *hideout) agents(t *testing.T) []int { return h.processes(t, "--"+expiredFlag) }

// settled waits until nothing waits for a confirmation, and returns what the server
// runs then: that must be one rule set, and what is saved.
func (h *hideout) settled(t *testing.T) change.Saved {
	t.Helper()
	h.eventually(t, "rules still wait for a confirmation", func() bool {
		p := h.kept(t).Pending
		if p != nil && p.Left() < -time.Second && len(h.agents(t)) == 0 {
			// All that were to see to it were killed, or were not there yet. Whoever
			// comes next does.
			next := h.lasting("confirm")
			h.start(t, next)
			next.Wait() // it fails: nothing can be confirmed any more
		}
		return p == nil
	})
	var survey backends.Survey
	if err := h.server.Do(func() error { survey = backends.Look(backends.All()); return nil }); err != nil {
		t.Fatal(err)
	}
	runs, _, err := survey.Loaded()
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 1 || runs[0].Status.Altered {
		t.Fatalf("the rules of %d backends are loaded; modified: %v", len(runs), runs[0].Status.Altered)
	}
	got := change.Saved{Loaded: runs[0].Status.Loaded, Backend: runs[0].Name(), RuleSet: runs[0].Status.Digest}
	if saved := h.kept(t).Saved; got.Loaded && (saved == nil || !saved.Same(&got)) {
		t.Fatalf("the server runs %+v, and %+v is saved", got, saved)
	}
	return got
}

// kept returns what the server keeps.
func (h *hideout) kept(t *testing.T) change.State {
	t.Helper()
	st, err := change.At(h.path("state"), h.path("run")).Read()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (h *hideout) eventually(t *testing.T, otherwise string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// TestPrompt answers the question that up asks on a terminal, and does not.
func TestPrompt(t *testing.T) {
	t.Parallel()
	// A program that is started under nohup ignores hang-ups, unless we do not.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangUps) })
	h := newRollback(t)
	good := h.settled(t)
	for _, test := range []struct {
		name, wait string
		answer     func(t *testing.T, screen *os.File, up *exec.Cmd)
		status     int // -1: killed by a signal
		confirmed  bool
		says       string
	}{
		{"yes", "60s", func(t *testing.T, screen *os.File, _ *exec.Cmd) { screen.WriteString("what\ny\n") }, 0, true, "confirmed"},
		{"no", "60s", func(t *testing.T, screen *os.File, _ *exec.Cmd) { screen.WriteString("n\n") }, 1, false, `not kept: rule set \S+ of "\S+policy.yaml" is back`},
		{"nothing", "2s", func(*testing.T, *os.File, *exec.Cmd) {}, 1, false, "not confirmed in time"},
		{"confirm elsewhere", "60s", func(t *testing.T, _ *os.File, _ *exec.Cmd) { h.verb(t, "confirm") }, 0, true, "confirmed"},
		{"rollback elsewhere", "60s", func(t *testing.T, _ *os.File, _ *exec.Cmd) { h.verb(t, "rollback") }, 1, false, `not kept: rule set \S+ of "\S+policy.yaml" is back`},
		{"up elsewhere", "2s", func(t *testing.T, _ *os.File, _ *exec.Cmd) { h.verb(t, "up", "--yes", "-f", h.path("bad.yaml")) }, 0, false, "same rules, which wait"},
		{"up for good elsewhere", "60s", func(t *testing.T, _ *os.File, _ *exec.Cmd) {
			h.verb(t, "up", "--no-confirm", "-f", h.path("policy.yaml"))
		}, 1, false, `not kept: another "postern up" has loaded rule set \S+ of "\S+policy.yaml" for good`},
		{"Ctrl-C", "60s", func(t *testing.T, screen *os.File, _ *exec.Cmd) { screen.WriteString("\x03") }, 130, false, "interrupted"},
		{"Ctrl-D, then confirm elsewhere", "60s", func(t *testing.T, screen *os.File, _ *exec.Cmd) {
			screen.WriteString("\x04")
			h.verb(t, "confirm")
		}, 0, true, "confirmed"},
		{"hung up", "2s", func(t *testing.T, screen *os.File, _ *exec.Cmd) { screen.Close() }, -1, false, ""},
		{"killed", "2s", func(t *testing.T, _ *os.File, up *exec.Cmd) { up.Process.Kill() }, -1, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.verb(t, "up", "-f", h.path("policy.yaml"))
			screen, terminal := newTerminal(t)
			up := h.lasting("up", "-f", h.path("bad.yaml"), "--confirm", test.wait)
			up.Stdin, up.Stdout, up.Stderr = terminal, terminal, terminal
			up.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 200}); err != nil {
				t.Fatal(err)
			}
			h.start(t, up)
			terminal.Close()
			var said bytes.Buffer
			read := make(chan struct{})
			asked := make(chan struct{}, 100)
			go func() {
				defer close(read)
				for b := make([]byte, 4096); ; {
					n, err := screen.Read(b)
					said.Write(b[:n])
					if bytes.Contains(said.Bytes(), []byte("[y/n]")) {
						asked <- struct{}{}
					}
					if err != nil {
						return
					}
				}
			}()
			select {
			case <-asked:
			case <-time.After(soon):
				t.Fatal("it does not ask")
			}
			test.answer(t, screen, up)
			up.Wait()
			if got := up.ProcessState.ExitCode(); got != test.status {
				t.Errorf("exit code %d, want %d", got, test.status)
			}
			<-read
			if !regexp.MustCompile(test.says).MatchString(said.String()) {
				t.Errorf("the screen does not show %q:\n%q", test.says, said.String())
			}
			if got := h.settled(t); got.Same(&good) == test.confirmed {
				t.Errorf("runs %+v; before it was %+v", got, good)
			}
			h.eventually(t, "an agent is left", func() bool { return len(h.agents(t)) == 0 })
		})
	}
}

// verb does a verb on the server.
func (h *hideout) verb(t *testing.T, args ...string) {
	t.Helper()
	cmd := h.lasting(args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	h.start(t, cmd)
	if err := cmd.Wait(); err != nil {
		t.Errorf("postern %q: %v\n%s", args, err, &said)
	}
}

// TestAgentEnds: what up leaves behind stays when it is told to end, as it does when it is
// the only one; beside a timer of systemd's it ends.
func TestAgentEnds(t *testing.T) {
	t.Parallel()
	h := newRollback(t)
	h.verb(t, "up", "-f", h.path("bad.yaml"), "--confirm", "60s")
	only := h.agents(t)
	if len(only) != 1 {
		t.Fatalf("up has left %d agents", len(only))
	}
	unix.Kill(only[0], unix.SIGTERM)

	beside := h.lasting(append(slices.Clone(rollbackAgent), change.BesideTimer)...)
	said, err := beside.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.start(t, beside)
	if line, err := bufio.NewReader(said).ReadString('\n'); line != change.Ready+"\n" {
		t.Fatalf("it says %q: %v", line, err)
	}
	beside.Process.Signal(unix.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- beside.Wait() }()
	select {
	case <-ended:
	case <-time.After(soon):
		beside.Process.Kill()
		t.Error("beside a timer it does not end")
	}
	if left := h.agents(t); !slices.Equal(left, only) {
		t.Errorf("agents %v are left, and %v was the only one", left, only)
	}
	h.verb(t, "rollback")
}

// TestRollbackKilled kills up, and what it leaves behind, at random moments: a second
// later the server runs what was confirmed, whole, and at no moment is the port open.
func TestRollbackKilled(t *testing.T) {
	t.Parallel()
	h := newRollback(t)
	p := h.probe(t, 22)
	defer p.shut(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	took := time.Second // for an up; it is measured as we go
	left := map[string]int{}
	for i := range *kills {
		before := h.settled(t)
		file := []string{"bad.yaml", "policy.yaml"}[i%2]
		up := h.lasting("up", "-f", h.path(file), "--confirm", "1s", "--backend", []string{"nftables", "iptables"}[random.IntN(2)])
		begun := time.Now()
		h.start(t, up)
		kill := []string{"up", "up", "agent", "both", "confirm"}[i%5]
		ended := make(chan error, 1)
		go func() { ended <- up.Wait() }()
		select {
		case <-time.After(time.Duration(random.Int64N(int64(took * 5 / 4)))):
			if kill == "up" || kill == "both" {
				up.Process.Kill()
			}
			<-ended
		case <-ended:
			took = time.Since(begun)
		}
		switch kill {
		case "agent", "both":
			for _, pid := range h.agents(t) {
				unix.Kill(pid, unix.SIGKILL)
			}
		case "confirm":
			confirm := h.lasting("confirm")
			h.start(t, confirm)
			time.Sleep(time.Duration(random.Int64N(int64(took))))
			confirm.Process.Kill()
			confirm.Wait()
		}
		after := h.settled(t)
		switch {
		case after.Same(&before):
			left["the former"]++
		case kill == "confirm":
			left["the newer, confirmed"]++
		default:
			t.Fatalf("%d, kill of %s: runs %+v, and it was %+v before", i, kill, after, before)
		}
	}
	t.Logf("what was left: %v", left)
}
