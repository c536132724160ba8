// Package change changes the rules of this host: one change at a time, and with a
// copy on disk of what ran last.
//
// # One at a time
//
// Begin takes the lock of the network namespace. Whoever changes rules holds it from
// before the rules are read until the change is over and noted. The kernel takes the
// lock away from a process that dies.
//
// # What is kept
//
// Three files describe a network namespace:
//
//   - STATE/loaded.json, the Saved, is what ran last and is confirmed: the text of
//     the policy, and the backend. It is what the machine loads when it boots, and
//     what is loaded again if others remove it.
//   - STATE/secret.json is what only this host knows: see Secret.
//   - RUNTIME/pending.json, the Pending, is there while newer rules wait for their
//     confirmation. It says how long they may, and what they are.
//
// Each is written to a second file that is synced and renamed, so that a crash at
// any moment leaves the old text or the new one. The Saved does not change while a
// Pending waits: it is the state that comes back. A Pending that was made beside
// another Saved than the one on disk is void, so that no crash between the two
// files can take back what was confirmed.
//
// STATE and RUNTIME are $STATE_DIRECTORY and $RUNTIME_DIRECTORY, which systemd sets.
// Without them they are /var/lib/postern and /run/postern in the network namespace
// of process 1, and one directory of /run/postern in any other.
package change

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// A Saved is a confirmed state of the rules.
type Saved struct {
	ID      string    `json:"id"`     // differs from that of every other one
	Loaded  bool      `json:"loaded"` // false: nothing is to be loaded, and the rest is empty
	Backend string    `json:"backend,omitempty"`
	RuleSet string    `json:"rule_set,omitempty"` // what firewall.Backend.Digest returned
	File    string    `json:"file,omitempty"`     // where the policy was read
	When    time.Time `json:"when"`
	Policy  string    `json:"policy,omitempty"` // its text
	Keys    string    `json:"keys,omitempty"`   // the file with the keys of its users
}

// Parse returns the saved policy. It must be one that is to be loaded.
func (s *Saved) Parse() (*policy.Policy, error) { return policy.Parse(s.File, []byte(s.Policy)) }

// Machine returns the saved policy as the backend that it was loaded by runs it.
func (s *Saved) Machine(all []firewall.Backend) (firewall.Backend, *automaton.Machine, error) {
	for _, b := range all {
		if b.Name() == s.Backend {
			p, err := s.Parse()
			if err != nil {
				return nil, nil, err
			}
			m, err := b.Machine(p)
			if err == nil {
				m.Keys = KeysIn(s.Keys)
			}
			return b, m, err
		}
	}
	return nil, nil, fmt.Errorf("the saved policy was loaded by an unknown backend, %q", s.Backend)
}

// Same reports whether both are the same rules, of the same backend.
func (s *Saved) Same(other *Saved) bool {
	return s.Loaded == other.Loaded && s.Backend == other.Backend && s.RuleSet == other.RuleSet
}

// A State is what is kept of a network namespace at one moment.
type State struct {
	Saved   *Saved   // nil: nothing is saved
	Pending *Pending // nil: nothing waits
}

// Wanted returns what the kernel is to run: what waits for a confirmation, or else
// what is saved; nil if nothing is known. Its Loaded may be false.
func (s State) Wanted() *Saved {
	if s.Pending != nil {
		return &s.Pending.New
	}
	return s.Saved
}

// Runs returns the machine that the kernel runs, of the policy file or of what is kept;
// or else that of the file, which may be nil.
func (s State) Runs(backend firewall.Backend, status *firewall.Status, file *automaton.Machine) *automaton.Machine {
	if file != nil && backend.Digest(file) == status.Digest {
		return file
	}
	loaded := Saved{Loaded: status.Loaded, Backend: backend.Name(), RuleSet: status.Digest}
	if w := s.Wanted(); w != nil && w.Loaded && w.Same(&loaded) {
		if _, m, err := w.Machine([]firewall.Backend{backend}); err == nil {
			return m
		}
	}
	return file
}

// Read returns what is kept. It takes no lock: only a holder of the lock can rely on
// the answer for longer than a moment. What cannot be read is missing in the State,
// and the error says why.
func (p *Place) Read() (State, error) {
	var s State
	// The Pending first: if it is confirmed in between, the newer Saved makes it void.
	pending, pendingErr := read[Pending](p.pendingFile())
	saved, savedErr := read[Saved](p.savedFile())
	s.Saved = saved
	if pending != nil && saved != nil && pending.Former == saved.ID {
		s.Pending = pending
	}
	return s, errors.Join(savedErr, pendingErr)
}

// A Change is the right to change the rules of a network namespace.
type Change struct {
	*Place
	State
	lock    *os.File
	resume  func()   // the watchdog
	blank   bool     // Propose saved that nothing is to be loaded
	earlier *Pending // what waited when Propose was called
}

// Begin waits for the lock and takes it. The caller must call End. While another
// process holds the lock, Begin calls waiting once, after a second, with the number
// of that process (0 if it is not known). If one process holds it for longer than
// ten seconds the error is a *LockedError.
//
// The rules must be read after Begin: what was read before may be another change's
// past. What is kept is in Change.State; an error beside a Change says what of it
// could not be read.
//
// The watchdog, if one runs, lets go of the rules until End, and then looks at them.
func (p *Place) Begin(ctx context.Context, waiting func(holder int)) (*Change, error) {
	lock, err := p.takeLock(ctx, waiting)
	if err != nil {
		return nil, err
	}
	c := &Change{Place: p, lock: lock, resume: p.pauseWatchdog()}
	c.State, err = p.Read()
	return c, err
}

// BeginAsWatchdog is Begin for the watchdog itself.
func (p *Place) BeginAsWatchdog(ctx context.Context) (*Change, error) {
	lock, err := p.takeLock(ctx, func(int) {})
	if err != nil {
		return nil, err
	}
	c := &Change{Place: p, lock: lock, resume: func() {}}
	c.State, err = p.Read()
	return c, err
}

// End releases the lock.
func (c *Change) End() {
	c.lock.Truncate(0) // nobody holds it
	c.lock.Close()
	c.resume()
}

// Keep notes a state that the kernel runs as the confirmed one. A change that waited
// is over.
func (c *Change) Keep(s Saved) error {
	if c.missing != nil {
		return c.leftBehind()
	}
	if err := c.save(s); err != nil {
		return err
	}
	return c.settle()
}

func (c *Change) save(s Saved) error {
	s.ID = rand.Text()
	if err := write(c.savedFile(), s); err != nil {
		return err
	}
	c.Saved = &s
	return nil
}

// leftBehind returns why another state stays saved than the kernel runs, where nothing can be
// kept; nil if none is saved, as Missing says the rest.
func (c *Change) leftBehind() error {
	if c.Saved == nil {
		return nil
	}
	return c.missing
}

// Forget notes that nothing is to be loaded any more. A change that waited is over.
func (c *Change) Forget() error {
	if c.missing != nil {
		return c.leftBehind()
	}
	if err := remove(c.savedFile()); err != nil {
		return err
	}
	c.Saved = nil
	return c.settle()
}

// Renew notes that a saved policy runs by another digest than the one it was saved
// with: a later version of this program makes other rules of it. It changes nothing if
// something else is saved by now, or waits.
func (c *Change) Renew(of *Saved, digest string) error {
	if c.missing != nil || c.Pending != nil || c.Saved == nil || c.Saved.ID != of.ID || of.RuleSet == digest {
		return nil
	}
	s := *of
	s.RuleSet = digest
	return c.save(s)
}

// settle ends the waiting.
func (c *Change) settle() error {
	if err := remove(c.pendingFile()); err != nil {
		return err
	}
	if p := c.Pending; p != nil {
		c.Pending = nil
		p.unschedule()
	}
	return nil
}

// A LockedError says that another process is changing the rules.
type LockedError struct{ Holder int }

func (e *LockedError) Error() string {
	return "another postern" + processText(e.Holder) + " is changing the rules; nothing has changed"
}

// processText names a process, if it is known.
func processText(pid int) string {
	if pid == 0 {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// remove removes a file that may not exist.
func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
