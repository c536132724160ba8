package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gofrs/flock"

	"postern/internal/rewrite"
)

// TestAdd: the file becomes readable only by its owner, whatever it was before.
func TestAdd(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "config", "postern")
	path := filepath.Join(folder, "hosts.yaml")
	if f, err := Read(path); err != nil || len(f.Hosts) != 0 || f.Exposed {
		t.Fatalf("no file: %+v, %v", f, err)
	}
	if err := Add(path, newcomer("a"), FailIfExists); err != nil {
		t.Fatal(err)
	}
	modes(t, map[string]fs.FileMode{folder: 0o700, path: 0o600})

	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if f, err := Read(path); err != nil || f.Exposed != (runtime.GOOS != "windows") {
		t.Errorf("of mode 0640: %+v, %v", f, err)
	}
	if err := Add(path, newcomer("b"), FailIfExists); err != nil {
		t.Fatal(err)
	}
	modes(t, map[string]fs.FileMode{path: 0o600})
	f, err := Read(path)
	if err != nil || len(f.Hosts) != 2 || f.Exposed {
		t.Errorf("%+v, %v", f, err)
	}

	// If the host is rejected, the file does not change and nothing is left
	// beside it.
	before, _ := os.ReadFile(path)
	if _, ok := errors.AsType[*ExistsError](Add(path, newcomer("a"), FailIfExists)); !ok {
		t.Error("the same name was taken twice")
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Errorf("the file is now\n%s", after)
	}
	if all, _ := os.ReadDir(folder); len(all) != 1 {
		t.Errorf("%v", all)
	}

	// An empty file has no hosts.
	empty := filepath.Join(folder, "empty.yaml")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Add(empty, newcomer("a"), FailIfExists); err != nil {
		t.Error(err)
	}
}

func modes(t *testing.T, want map[string]fs.FileMode) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return // which has no modes
	}
	for path, mode := range want {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// TestAddThroughLink: a symbolic link to a file elsewhere stays a link.
func TestAddThroughLink(t *testing.T) {
	folder := t.TempDir()
	path, real := filepath.Join(folder, "hosts.yaml"), filepath.Join(folder, "elsewhere.yaml")
	if err := Add(real, newcomer("a"), FailIfExists); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, path); err != nil {
		t.Fatal(err)
	}
	if err := Add(path, newcomer("b"), FailIfExists); err != nil {
		t.Fatal(err)
	}
	if f, err := Read(real); err != nil || len(f.Hosts) != 2 {
		t.Errorf("%+v, %v", f, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestAddAtOnce: no host is lost if several are added at the same time.
func TestAddAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.yaml")
	const writers = 20
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			if err := Add(path, newcomer(fmt.Sprintf("h%d", i)), FailIfExists); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if f, err := Read(path); err != nil || len(f.Hosts) != writers {
		t.Errorf("%d hosts, %v", len(f.Hosts), err)
	}
}

// TestAddBusy: a file that another process writes is named, and that process
// keeps its lock.
func TestAddBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it waits, by the clock
		path := filepath.Join(t.TempDir(), "hosts.yaml")
		other := flock.New(path + ".postern-lock")
		if err := other.Lock(); err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		err := Add(path, newcomer("a"), FailIfExists)
		if busy, ok := errors.AsType[*rewrite.BusyError](err); !ok || busy.Path != path || !strings.Contains(err.Error(), "hosts.yaml") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(other.Path()); err != nil {
			t.Error("somebody else's lock file was removed")
		}
	})
}

// TestOddPlaces: what is not a regular file is neither read nor replaced, and
// does not block.
func TestOddPlaces(t *testing.T) {
	for name, make := range odd {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "hosts.yaml")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			if _, ok := errors.AsType[*rewrite.NotRegularError](err); !ok {
				t.Errorf("reading: %v", err)
			}
			err = Add(path, newcomer("a"), FailIfExists)
			if _, ok := errors.AsType[*rewrite.NotRegularError](err); !ok {
				t.Errorf("writing: %v", err)
			}
			if all, _ := os.ReadDir(folder); len(all) != 1 {
				t.Errorf("%v", all)
			}
		})
	}
}

// TestExposed: a file without knocks exposes none.
func TestExposed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.yaml")
	for _, text := range []string{"", "\n", "version: 1\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if f, err := Read(path); err != nil || f.Exposed {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
}
