package watchdog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	nft "github.com/google/nftables"

	"postern/internal/change"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/firewall/nftables"
	"postern/internal/lab/labtest"
)

// other is another policy than hidden22.
const other = "version: 1\nposture: guard\nlog: {target: none}\ndoors:\n  web: {service: 80, knock: {sequence: [1234, 2345, 3456]}}\n"

// TestFlushLoop: somebody who flushes without end does not get the port open for good,
// and does not fill the journal.
func TestFlushLoop(t *testing.T) {
	s := newScene(t, nftables.Backend{})
	s.up(hidden22)
	s.watch(true)
	n := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); n++ {
		flushRuleset(s)
	}
	s.until("the rules are back", func() bool { return s.sound(hidden22) })
	s.until("it said so", func() bool { return s.said.count("the rules were") > 0 })
	if said := s.said.count("the rules were"); said != 1 {
		t.Errorf("of %d flushes it said %d times that there was one", n, said)
	}
}

// TestOthersChurn: what others do to their own tables is no reason to look.
func TestOthersChurn(t *testing.T) {
	s := newScene(t, nftables.Backend{})
	s.up(hidden22)
	s.watch(true)
	before := int64(0) // when it began to do nothing
	s.until("it has begun", func() bool {
		before = s.locked()
		time.Sleep(200 * time.Millisecond)
		return s.locked() == before
	})
	s.churn(50)
	if s.locked() != before {
		t.Error("it looked at the rules")
	}
	flushRuleset(s)
	s.until("the rules are back", func() bool { return s.sound(hidden22) })
}

// locked returns when the lock file was written last, in nanoseconds: each look takes
// the lock.
func (s *scene) locked() int64 {
	s.T.Helper()
	info, err := os.Stat(filepath.Join(s.place.Runtime(), "lock"))
	if err != nil {
		s.T.Fatal(err)
	}
	return info.ModTime().UnixNano()
}

// churn makes and removes tables as container engines do.
func (s *scene) churn(times int) {
	s.T.Helper()
	err := s.Gateway.Do(func() error {
		for i := range times {
			var c nft.Conn
			t := c.AddTable(&nft.Table{Family: nft.TableFamilyINet, Name: fmt.Sprintf("containers%d", i)})
			chain := c.AddChain(&nft.Chain{Name: "a", Table: t})
			c.AddRule(&nft.Rule{Table: t, Chain: chain})
			if err := c.Flush(); err != nil {
				return err
			}
			c.DelTable(t)
			if err := c.Flush(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.T.Fatal(err)
	}
}

// TestLostNotices: where more changes than fit the buffer, the rules are read.
func TestLostNotices(t *testing.T) {
	before := receiveBuffer
	receiveBuffer = 2048
	defer func() { receiveBuffer = before }()
	s := newScene(t, nftables.Backend{})
	s.up(hidden22)
	s.watch(true)
	c := s.begin() // for the watchdog to be busy: it is paused, and reads nothing of value
	s.churn(40)
	flushRuleset(s)
	s.churn(40)
	c.End()
	s.until("the rules are back", func() bool { return s.sound(hidden22) })

	var n *notices
	if err := s.Gateway.Do(func() (err error) { n, err = listen(); return err }); err != nil {
		t.Fatal(err)
	}
	defer n.close()
	s.churn(40)
	if h := n.read(someNotices, func(firewall.Notice) bool { return false }); !h.lost {
		t.Error("notices were lost, and that is not noticed")
	}
}

// TestPendingRules: rules that wait for a confirmation are the ones to keep, and nobody
// but the watchdog is left to take them back.
func TestPendingRules(t *testing.T) {
	s := newScene(t, nftables.Backend{})
	s.up(hidden22)
	s.watch(false)
	c := s.begin()
	var survey backends.Survey
	if err := s.Gateway.Do(func() error { survey = backends.Look([]firewall.Backend{s.Backend}); return nil }); err != nil {
		t.Fatal(err)
	}
	agent := []string{"-test.run=^TestAgentThatDies$"} // see change.Propose
	m := labtest.Compile(t, s.Backend, other)
	next := change.Saved{Loaded: true, Backend: s.Backend.Name(), RuleSet: s.Backend.Digest(m), File: "other.yaml", Policy: other}
	if err := c.Propose(next, survey, 2*time.Second, agent); err != nil {
		t.Fatal(err)
	}
	s.Apply(m)
	c.End()
	s.until("it keeps the new ones", func() bool { return s.said.count("other.yaml") > 0 })
	// A look at which it cannot read what waits changes nothing about that.
	pending := filepath.Join(c.Runtime(), "pending.json")
	if err := errors.Join(os.Rename(pending, pending+".away"), os.Mkdir(pending, 0o700)); err != nil {
		t.Fatal(err)
	}
	flushRuleset(s)
	s.until("the new ones are back", func() bool { return s.sound(other) })
	s.until("it said so", func() bool { return s.said.count("pending.json") > 0 })
	if err := errors.Join(os.Remove(pending), os.Rename(pending+".away", pending)); err != nil {
		t.Fatal(err)
	}
	s.until("the former ones are back", func() bool { return s.sound(hidden22) })
	s.until("it said so", func() bool { return s.said.count("nobody confirmed") > 0 })
	s.Expect(t, s.NewAddress(labtest.IPv4), labtest.TCP(22), labtest.Silence, "after the rollback")
}

// TestAgentThatDies plays an agent that is killed as soon as it is ready.
func TestAgentThatDies(t *testing.T) {
	if !strings.HasPrefix(os.Args[0], "postern") {
		return
	}
	fmt.Println(change.Ready)
	os.Exit(0)
}

// TestUnreadableState: a copy of the policy that cannot be read does not keep the
// watchdog from what it knows.
func TestUnreadableState(t *testing.T) {
	s := newScene(t, nftables.Backend{})
	s.up(hidden22)
	s.watch(true)
	if err := os.WriteFile(filepath.Join(os.Getenv("STATE_DIRECTORY"), "loaded.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	flushRuleset(s)
	s.until("the rules are back", func() bool { return s.sound(hidden22) })
	s.until("it said so", func() bool { return s.said.count("loaded.json") > 0 })
}

// TestStop: the rules stay, and another watchdog takes over.
func TestStop(t *testing.T) {
	s := newScene(t, nftables.Backend{})
	s.up(hidden22)
	s.watch(false)()
	if !s.sound(hidden22) {
		t.Error("the rules went with the watchdog")
	}
	flushRuleset(s)
	s.watch(false)
	s.until("the rules are back", func() bool { return s.sound(hidden22) })
	s.until("it says that it found none", func() bool { return s.said.count("the rules were removed; they are loaded again\n") == 1 })
}

// TestNotify: systemd hears when the watchdog is ready, and that it is alive.
func TestNotify(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "30000")
	s := newScene(t, nftables.Backend{})
	s.up(hidden22)
	s.watch(true)
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		got := make([]byte, 100)
		n, err := conn.Read(got)
		if err != nil || string(got[:n]) != want {
			t.Fatalf("it says %q, want %q: %v", got[:n], want, err)
		}
	}
	t.Setenv("WATCHDOG_PID", "1")
	if heartbeat() != 0 {
		t.Error("takes another's watchdog for its own")
	}
}

// TestLimiter: the first time is said at once, and the others once a minute.
func TestLimiter(t *testing.T) {
	var l limiter
	start := time.Unix(1000, 0)
	var got []string
	for _, seconds := range []int{0, 1, 59, 61, 62, 200, 201} {
		at := start.Add(time.Duration(seconds) * time.Second)
		if n := l.rest(at); n > 0 {
			got = append(got, fmt.Sprintf("%ds: %d more", seconds, n))
		}
		if say, before := l.happened(at, ""); say {
			got = append(got, fmt.Sprintf("%ds: said, %d before", seconds, before))
		}
	}
	want := "0s: said, 0 before; 61s: 2 more; 200s: 2 more"
	if text := strings.Join(got, "; "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// TestFailures: a failure is said at once if its text is not one of those said last, but not
// ever more of them; and whatever is not said is counted.
func TestFailures(t *testing.T) {
	start := time.Unix(1000, 0)
	repeat := func(n int, texts ...string) (all []string) {
		for range n {
			all = append(all, texts...)
		}
		return all
	}
	for name, c := range map[string]struct {
		each []string // a second; "" is none
		want string
	}{
		"another one": {
			[]string{"a", "a", "b", "a", "b"},
			"0s a; 2s b",
		},
		"one for long": {
			repeat(150, "a"),
			"0s a; 60s 59 more; 120s 60 more",
		},
		"one, then another for long": {
			append(repeat(30, "a"), repeat(100, "b")...),
			"0s a; 30s b; 60s 58 more; 120s 60 more",
		},
		"two in turn": { // of two the last one is not said again
			repeat(65, "a", "b"),
			"0s a; 1s b; 60s 58 more; 60s a; 120s 59 more; 120s a",
		},
		"ever new ones": {
			strings.Split("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-", ""),
			"0s a; 1s b; 2s c; 3s d; 4s e; 60s 55 more; 60s 8; 61s 9; 62s +; 63s -",
		},
		"again after a quiet time": {
			slices.Concat(repeat(1, "a"), repeat(70, ""), repeat(2, "a")),
			"0s a; 71s a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			var got []string
			w := &watchdog{Config: Config{Journal: &Journal{To: &said}}}
			failures, told := 0, 0
			for i, text := range c.each {
				now := start.Add(time.Duration(i) * time.Second)
				said.Reset()
				if text == "" {
					w.sayRest(now)
				} else {
					failures++
					w.sayFailed(now, errors.New(text))
				}
				for line := range strings.Lines(said.String()) {
					line = strings.TrimSpace(strings.TrimPrefix(line, "postern: watchdog: "))
					if n := 0; strings.HasPrefix(line, "failed ") {
						fmt.Sscanf(line, "failed %d more", &n)
						line = fmt.Sprint(n, " more")
						told += n
					} else {
						line = strings.TrimSuffix(line, "; it is tried again")
						told++
					}
					got = append(got, fmt.Sprintf("%ds %s", i, line))
				}
			}
			if text := strings.Join(got, "; "); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
			if told += w.failed.count; told != failures {
				t.Errorf("of %d failures %d were said or are counted", failures, told)
			}
		})
	}
}

func TestJournal(t *testing.T) {
	for priority, want := range map[bool]string{true: "<4>watchdog: x 1\n", false: "postern: watchdog: x 1\n"} {
		var b strings.Builder
		(&Journal{&b, priority}).say(warning, "watchdog: x %d", 1)
		if b.String() != want {
			t.Errorf("got %q, want %q", b.String(), want)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv("JOURNAL_STREAM", "1:2")
	if InJournal(f) {
		t.Error("a file is the journal")
	}
}

// TestRunNeedsDirectories: without what ran last on disk there is nothing to keep.
func TestRunNeedsDirectories(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STATE_DIRECTORY", filepath.Join(file, "state"))
	t.Setenv("RUNTIME_DIRECTORY", filepath.Join(file, "run"))
	err := Run(context.Background(), Config{Place: change.Here(), Journal: &Journal{To: &strings.Builder{}}})
	if err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("runs: %v", err)
	}
}
