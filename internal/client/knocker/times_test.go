package knocker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/key"
)

// forget makes this process know no more of given times than another one does.
func forget() {
	given.Lock()
	defer given.Unlock()
	given.last = nil
}

func TestNextTime(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", folder)
	t.Setenv("HOME", folder)                           // where the other systems look
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC) // five seconds after a point
	point := key.Lane4.Point(now)
	newSeries := func() series { return series{key.NewDevice(), key.DoorID("ssh"), key.Lane4} }
	at := func(s series, now, want time.Time, why string) {
		t.Helper()
		if got := nextTime(s, false, now); !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", why, got.UTC(), want.UTC())
		}
	}
	bound := func(s series, now, want time.Time, why string) {
		t.Helper()
		if got := nextTime(s, true, now); !got.Equal(want) {
			t.Errorf("bound, %s: got %v, want %v", why, got.UTC(), want.UTC())
		}
	}
	for _, again := range []func(){func() {}, forget} { // by itself, and by the file
		s := newSeries()
		at(s, now, point, "the first")
		again()
		at(s, now, now, "the same moment")
		again()
		at(s, now, now.Add(1), "and once more")
		again()
		at(s, now.Add(time.Second), now.Add(time.Second), "later")
		again()
		at(s, now.Add(-time.Second), now.Add(time.Second+1), "set back a little")
		again()
		at(s, now.Add(key.Spacing), point.Add(key.Spacing), "the next point")
		again()
		at(newSeries(), now.Add(-time.Hour), key.Lane4.Point(now.Add(-time.Hour)), "another device")
		again()
		at(s, now.Add(-time.Hour), key.Lane4.Point(now.Add(-time.Hour)), "a clock that was wrong")
		again()
		at(s, now.Add(-time.Hour), now.Add(-time.Hour), "and right again")
		again()
		six := s
		six.lane = key.Lane6
		at(six, now.Add(-time.Hour), key.Lane6.Point(now.Add(-time.Hour)), "another lane")

		s = newSeries()
		bound(s, now, point.Add(-beforePoint), "the first")
		again()
		bound(s, now, point.Add(1-beforePoint), "the second")
		again()
		at(s, now, point, "after bound ones")
		again()
		bound(s, now, now, "after the point")
	}

	// A file that holds no time, and none at all, are no reason to stop.
	s := newSeries()
	at(s, now, point, "the first")
	file := filepath.Join(folder, "postern", s.file())
	if err := os.WriteFile(file, []byte("yesterday"), 0o600); err != nil {
		t.Fatalf("not where the file is: %v", err)
	}
	forget()
	at(s, now, point, "an unreadable file")
	at(s, now, now, "and the next")
	t.Setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
	t.Setenv("HOME", "/dev/null/nowhere")
	at(s, now, now.Add(1), "no file")
}

// givingTimes says in the environment that the process is one of several.
const givingTimes = "TEST_KNOCKER_TIMES"

// TestTimesOfProcesses: several processes at once never give the same time.
func TestTimesOfProcesses(t *testing.T) {
	const processes, each = 4, 100
	now, tokens := time.Unix(1_800_000_000, 0), series{key.Device(7), key.DoorID("ssh"), key.Lane4}
	if os.Getenv(givingTimes) != "" {
		for range each {
			fmt.Println("time", nextTime(tokens, false, now).UnixNano())
		}
		return
	}
	folder := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", folder)
	t.Setenv("HOME", folder)
	t.Setenv(givingTimes, "1")
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var all [processes]*exec.Cmd
	var out [processes]strings.Builder
	for i := range all {
		all[i] = exec.Command(own, "-test.run=^TestTimesOfProcesses$")
		all[i].Stdout = &out[i]
		if err := all[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for i, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, &out[i])
		}
		for line := range strings.Lines(out[i].String()) {
			if !strings.HasPrefix(line, "time ") {
				continue
			}
			if seen[line] {
				t.Errorf("%s was given twice", line)
			}
			seen[line] = true
		}
	}
	if len(seen) != processes*each {
		t.Errorf("%d times, want %d", len(seen), processes*each)
	}
}
