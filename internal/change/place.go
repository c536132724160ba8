package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Place is the two directories of one network namespace.
type Place struct {
	state, runtime string
	missing        error // why there are no such directories
}

// At returns the place with these directories, whatever the network namespace.
func At(state, runtime string) *Place { return &Place{state: state, runtime: runtime} }

// Missing returns why nothing is kept here: the directories could not be made, as
// for an ordinary user in a user namespace. Rules can be loaded all the same.
func (p *Place) Missing() error { return p.missing }

// Runtime returns the directory for what does not outlive the machine. It exists
// unless Missing says why not.
func (p *Place) Runtime() string { return p.runtime }

func (p *Place) savedFile() string   { return filepath.Join(p.state, "loaded.json") }
func (p *Place) pendingFile() string { return filepath.Join(p.runtime, "pending.json") }
func (p *Place) lockFile() string    { return filepath.Join(p.runtime, "lock") }

// SecretFile returns where Secret is kept.
func (p *Place) SecretFile() string { return filepath.Join(p.state, "secret.json") }

// make makes the directories, for root alone. Others may have made them already.
func (p *Place) make() {
	for _, dir := range []string{p.state, p.runtime} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			p.missing = err
			return
		}
	}
}

// fromSystemd returns the first directory of a variable that systemd sets; or else
// another one.
func fromSystemd(variable, otherwise string) string {
	first, _, _ := strings.Cut(os.Getenv(variable), ":")
	if filepath.IsAbs(first) {
		return first
	}
	return otherwise
}

// read reads a file of JSON; nil if there is none.
func read[T any](name string) (*T, error) {
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	value := new(T)
	if err := json.Unmarshal(text, value); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// write replaces a file of JSON. When it returns, the new text is on the disk.
func write(name string, value any) (err error) {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".new-*") // with mode 0600: it has the knocks
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir has a renaming written to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
