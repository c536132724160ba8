package watchdog

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/change"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// hidden22 hides a port where nothing listens: without rules, it refuses.
const hidden22 = labtest.Closed + "doors:\n  ssh: {service: 22, knock: {sequence: [1234, 2345, 3456]}}\n"

// log is what a watchdog has said so far.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count returns how often something was said.
func (l *log) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A scene is a gateway that keeps its own directories.
type scene struct {
	*labtest.Scene
	place *change.Place
	said  log
}

func newScene(t *testing.T, b firewall.Backend) *scene {
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	t.Setenv("RUNTIME_DIRECTORY", t.TempDir())
	return &scene{Scene: labtest.NewScene(t, b), place: change.Here()}
}

// up loads a policy as "postern up" does, and pauses the watchdog for it.
func (s *scene) up(text string) {
	s.T.Helper()
	s.upWithKeys(text, "")
}

// upWithKeys loads a policy whose keys are in a file.
func (s *scene) upWithKeys(text, file string) {
	s.T.Helper()
	c := s.begin()
	defer c.End()
	m := labtest.Compile(s.T, s.Backend, text)
	if file != "" {
		m.Keys = change.KeysIn(file)
	}
	s.Apply(m)
	err := c.Keep(change.Saved{
		Loaded: true, Backend: s.Backend.Name(), RuleSet: s.Backend.Digest(m), File: "policy.yaml", When: time.Now(), Policy: text, Keys: file,
	})
	if err != nil {
		s.T.Fatal(err)
	}
}

func (s *scene) begin() *change.Change {
	s.T.Helper()
	c, err := s.place.Begin(s.T.Context(), func(int) {})
	if err != nil {
		s.T.Fatal(err)
	}
	return c
}

// watch runs a watchdog on the gateway until the returned function is called or the
// test ends, and waits for it to begin.
func (s *scene) watch(onlyLook bool) (stop func()) {
	s.T.Helper()
	ctx, cancel := context.WithCancel(s.T.Context())
	ended := make(chan error, 1)
	before := s.said.count("\n")
	go func() {
		ended <- s.Gateway.Do(func() error {
			return Run(ctx, Config{
				Place: change.Here(), Backends: []firewall.Backend{s.Backend}, Journal: &Journal{To: &s.said}, OnlyLook: onlyLook,
			})
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.T.Error(err)
		}
	})
	s.T.Cleanup(stop)
	s.until("it begins", func() bool { return s.said.count("\n") > before })
	return stop
}

// until waits until something is true.
func (s *scene) until(what string, is func() bool) {
	s.T.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.T.Fatalf("not in 20 s: %s; it said\n%s", what, s.said.String())
		}
	}
}

// sound reports whether the gateway runs a policy as it was loaded.
func (s *scene) sound(text string) bool {
	s.T.Helper()
	var status *firewall.Status
	if err := s.Gateway.Do(func() (err error) { status, err = s.Backend.Inspect(); return err }); err != nil {
		return false
	}
	return status.Loaded && !status.Altered && status.Digest == s.Backend.Digest(labtest.Compile(s.T, s.Backend, text))
}

// run runs a program on the gateway.
func (s *scene) run(name string, args ...string) {
	s.T.Helper()
	if out, err := s.Gateway.Command(s.T.Context(), name, args...).CombinedOutput(); err != nil {
		s.T.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
