package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"postern/internal/document"
)

// Path is where this user's hosts file is, by the habits of the system:
// ~/.config/postern/hosts.yaml on Linux.
func Path() (string, error) {
	config, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(config, "postern", "hosts.yaml"), nil
}

// Read reads a hosts file. One that is not there holds no hosts.
func Read(path string) (*File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than a file may have, for Parse to see that it is too long.
	text, err := io.ReadAll(io.LimitReader(f, document.MaxSize+1))
	if err != nil {
		return nil, err
	}
	hosts := &File{}
	if len(bytes.TrimSpace(text)) > 0 { // else as good as not there
		if hosts, err = Parse(path, text); err != nil {
			return nil, err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Windows has no such bits: what Go makes up for them says nothing.
	hosts.Exposed = runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
	return hosts, nil
}

// A BusyError says that another program seems to be writing the file.
type BusyError struct{ Path string } // of what it writes first

func (e *BusyError) Error() string {
	return fmt.Sprintf("%q is there: another postern is writing it, or was killed while it did", e.Path)
}

// Add adds a host to the file at path, and makes the file if there is none. The
// file is replaced as a whole, so whoever reads it meanwhile, and whoever pulls the
// plug, finds the old one or the new one. What was the file's mode is 0600 then.
func Add(path string, h Host, on Clash) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A file that is kept elsewhere, by a link to it, is replaced there.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	next, err := begin(path + ".new")
	if err != nil {
		return err
	}
	err = add(next, path, h, on)
	if err != nil {
		next.Close()
		os.Remove(next.Name())
	}
	return err
}

// patience is how long to wait for another program that writes.
const patience = 2 * time.Second

// begin makes the file that is to take the old one's place. It can be made but
// once, and so it is also the lock that keeps two writers apart.
func begin(path string) (*os.File, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		case time.Now().After(deadline):
			return nil, &BusyError{path}
		}
	}
}

func add(next *os.File, path string, h Host, on Clash) error {
	old, err := Read(path)
	if err != nil {
		return err
	}
	text, err := old.With(h, on)
	if err != nil {
		return err
	}
	if _, err := next.Write(text); err != nil {
		return err
	}
	if err := next.Sync(); err != nil {
		return err
	}
	if err := next.Close(); err != nil {
		return err
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	return nil
}

// syncFolder makes sure that the new name outlives a power failure. Not every
// system has a way to, and the file is whole without.
func syncFolder(path string) {
	if folder, err := os.Open(path); err == nil {
		folder.Sync()
		folder.Close()
	}
}
