// Package rewrite changes small text files that people edit too: as a whole or
// not at all, and one writer at a time.
//
// A writer locks a file beside the one it changes (flock, or LockFileEx on
// Windows), writes the new text to a second one and renames that into place.
// A reader, or a power failure, finds the old text or the new one. The system
// releases the lock of a process that is killed, and the next writer replaces
// what that process left behind.
package rewrite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"

	"postern/internal/document"
)

// Mode says who may read the file afterwards.
type Mode int

const (
	Private  Mode = iota // only its owner, whatever the mode was before
	KeepMode             // as before; only its owner if the file is new
)

// A BusyError reports that another process is writing the file.
type BusyError struct{ Path string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another postern is writing %s", document.QuotedPath(e.Path))
}

// A NotRegularError reports that the path is not a regular file but, for
// example, a directory, a pipe or a dangling link.
type NotRegularError struct {
	Path string
	What string // "is …"
}

func (e *NotRegularError) Error() string {
	return fmt.Sprintf("%s %s", document.QuotedPath(e.Path), e.What)
}

// Reason returns what an error of a file says, without the path, for texts that name
// it already.
func Reason(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	if place, ok := errors.AsType[*NotRegularError](err); ok {
		return "it " + place.What
	}
	return err.Error()
}

// CheckRegular returns nil if path is a regular file or does not exist.
// Opening anything else could block for ever: a pipe waits for a writer.
func CheckRegular(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if info, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return &NotRegularError{path, "is a link that leads nowhere"}
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &NotRegularError{path, "is not a regular file"}
	}
	return nil
}

// maxSize bounds what is read. Nobody writes more by hand.
const maxSize = 16 << 20

// File replaces the text of a file by what change returns for it, and reports
// whether the text differs. If the file does not exist, old is nil. If path is
// a link, the file that it points to is replaced.
func File(path string, mode Mode, change func(old []byte) ([]byte, error)) (changed bool, err error) {
	if path, err = resolve(path); err != nil {
		return false, err
	}
	l, err := lock(path)
	if err != nil {
		return false, err
	}
	defer unlock(l)
	return replace(path, mode, change)
}

// resolve follows links, and fails for anything that is not a regular file.
func resolve(path string) (string, error) {
	if err := CheckRegular(path); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return real, err
}

const (
	lockSuffix = ".postern-lock"
	newSuffix  = ".postern-new"

	lockTimeout = 10 * time.Second
	lockPoll    = 20 * time.Millisecond
)

// lock waits until no other process writes the file at path.
func lock(path string) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	for {
		l := flock.New(path + lockSuffix)
		_, err := l.TryLockContext(ctx, lockPoll)
		if err == nil && current(l) {
			return l, nil
		}
		l.Close()
		switch {
		case ctx.Err() != nil:
			return nil, &BusyError{path}
		case err != nil:
			return nil, err
		}
	}
}

// current reports whether the locked file is still the one with its name. A
// writer removes its lock file; a lock on a removed file excludes nobody.
func current(l *flock.Flock) bool {
	locked, err := l.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(l.Path())
	return err == nil && os.SameFile(locked, named)
}

// unlock removes the lock file and then releases the lock, so that nobody can
// lock the file in between. Windows does not remove an open file: there an empty
// lock file stays.
func unlock(l *flock.Flock) {
	os.Remove(l.Path())
	l.Close()
}

// replace changes the file at path, which must be locked.
func replace(path string, mode Mode, change func([]byte) ([]byte, error)) (changed bool, err error) {
	old, perm, err := read(path)
	if err != nil {
		return false, err
	}
	text, err := change(old)
	if err != nil {
		return false, err
	}
	if old != nil && string(text) == string(old) {
		return false, nil
	}
	if mode == Private {
		perm = 0o600
	}
	temp := path + newSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a killed writer
		return false, err
	}
	if err := write(temp, text, perm); err != nil {
		os.Remove(temp)
		return false, err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return false, err
	}
	syncDir(filepath.Dir(path))
	return true, nil
}

// write creates a file and makes sure that its text is on the disk.
func write(path string, text []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if runtime.GOOS != "windows" { // which has no such modes
		if err := f.Chmod(perm); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// read returns a file's text and mode; the text is nil if there is no file.
func read(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o600, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case info.Size() > maxSize:
		return nil, 0, fmt.Errorf("%s is too large for a configuration file", document.QuotedPath(path))
	}
	text := make([]byte, info.Size())
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, 0, err
	}
	return text, info.Mode().Perm(), nil
}

// syncDir makes the new name survive a power failure. Some systems cannot do
// this; the file is complete either way.
func syncDir(path string) {
	if dir, err := os.Open(path); err == nil {
		dir.Sync()
		dir.Close()
	}
}
