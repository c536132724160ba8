package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// buildOther builds the program from other sources: ids are made in another way, so
// that it makes other rules of every policy and its grants have other names.
func buildOther(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(root, "internal/automaton/id.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), "sha256.Sum256([]byte(name))", `sha256.Sum256([]byte("other" + name))`, 1)
	if other == string(text) {
		t.Fatal("id.go is not what it was")
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "id.go")}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "id.go"), other)
	write(t, filepath.Join(dir, "overlay.json"), string(overlay))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"),
		"-o", filepath.Join(dir, "postern"), "./cmd/postern")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "postern")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// install puts a program into a place as an archive or a package does.
func install(t *testing.T, program, place string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, program, place+".new")
	if err := os.Rename(place+".new", place); err != nil {
		t.Fatal(err)
	}
}

// TestUpgrade replaces the program while its watchdog runs, or has another one beside
// it load the rules. Neither loses the new rules to the watchdog's own.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	other := buildOther(t)
	for _, test := range []struct {
		name    string
		inPlace bool
	}{{"replaced", true}, {"beside", false}} {
		t.Run(test.name, func(t *testing.T) {
			h := newHideout(t, hiddenSSH)
			old := h.path("old/postern")
			install(t, other, old)
			run := func(program string, args ...string) outcome {
				cmd := h.serverCommand(within(t, soon), args...)
				cmd.Path = program
				return h.finish(t, cmd)
			}
			if got := run(old, "up", "-f", h.path("policy.yaml")); got.status != 0 ||
				!strings.Contains(got.talk, "another version of postern, whose grants may be lost") {
				t.Fatalf("up by the old program: %+v", got)
			}
			// As seen by the old program.
			rules := func() string {
				var s struct {
					RuleSet string `json:"rule_set"`
				}
				got := run(old, "status", "--json", "-f", h.path("policy.yaml"))
				if err := json.Unmarshal([]byte(got.out), &s); err != nil {
					t.Fatalf("%v: %+v", err, got)
				}
				return s.RuleSet
			}
			oldRules := rules()

			watchdog := h.serverCommand(t.Context(), "watchdog", "--only-look")
			watchdog.Path = old
			var said lockedBuffer
			watchdog.Stderr = &said
			if err := watchdog.Start(); err != nil {
				t.Fatal(err)
			}
			defer watchdog.Wait()
			defer watchdog.Process.Kill()
			until := func(what string, times int) {
				t.Helper()
				for end := time.Now().Add(soon); strings.Count(said.String(), what) < times; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("the watchdog did not say %q but\n%s", what, said.String())
					}
				}
			}
			until("keeps rule set", 1)

			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			program := old
			if !test.inPlace {
				program = h.path("new/postern")
			}
			install(t, self, program)
			got := run(program, "up", "-f", h.path("policy.yaml"))
			warned := strings.Contains(got.talk, "is another version of postern")
			if got.status != 0 || warned == test.inPlace || !strings.Contains(got.talk, "whose grants may be lost") {
				t.Fatalf("up by the new program: %+v", got)
			}
			if test.inPlace {
				until("goes on as what is "+old+" now", 1)
				until("keeps rule set", 2)
			} else {
				until("is of another version of this program, and stays as it is", 1)
			}
			newRules := rules()
			if newRules == oldRules {
				t.Fatal("the rules are the old ones")
			}
			if got := run(program, "status", "-f", h.path("policy.yaml")); got.status != 0 ||
				strings.Contains(got.talk, "is another version of postern") == test.inPlace {
				t.Errorf("status: %+v", got)
			}

			// What others remove comes back: the same, or at least some.
			restored := strings.Count(said.String(), "they are loaded again")
			if out, err := h.server.Command(t.Context(), "nft", "flush", "ruleset").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			until("they are loaded again", 1)
			if restored != 0 {
				t.Errorf("the watchdog loaded rules before:\n%s", said.String())
			}
			want := newRules
			if !test.inPlace {
				want = oldRules
			}
			if got := rules(); got != want {
				t.Errorf("rule set %s is loaded again, not %s:\n%s", got, want, said.String())
			}
		})
	}
}

// A lockedBuffer is what a process that runs has said so far.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
