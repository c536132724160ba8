// Package rewrite changes small text files that people write, too: as a whole or
// not at all, and one writer at a time.
//
// The new text is written beside the file and takes its place by a new name. So
// whoever reads it meanwhile, and whoever pulls the plug, finds the old text or the new
// one. That other file can be made but once, which keeps two writers apart.
package rewrite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Mode is who may read the file afterwards.
type Mode int

const (
	Private  Mode = iota // its owner alone, whoever might before
	KeepMode             // whoever might before; its owner alone if it is new
)

// A BusyError says that another program seems to be writing the file.
type BusyError struct{ Path string } // of what it writes first

func (e *BusyError) Error() string {
	return fmt.Sprintf("%q is there: another postern is writing it, or was killed while it did", e.Path)
}

// A NotRegularError says that something else is in the file's place: a folder, a pipe, a
// link that leads nowhere.
type NotRegularError struct {
	Path string
	What string // "is …"
}

func (e *NotRegularError) Error() string { return fmt.Sprintf("%q %s", e.Path, e.What) }

// CheckRegular says whether there is a file to open at path: nil means that there is one, or
// nothing. To open what is no file may never end: a pipe waits for who writes to it.
func CheckRegular(path string) error {
	info, err := os.Stat(path)
	if _, here := os.Lstat(path); here == nil && errors.Is(err, fs.ErrNotExist) {
		return &NotRegularError{path, "is a link that leads nowhere"}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &NotRegularError{path, "is no file"}
	}
	return nil
}

// maxSize keeps what is read small: nobody writes as much by hand.
const maxSize = 16 << 20

// File has change make a file's text anew, and tells whether that is another text. Of
// a file that is not there the old text is nil. A file that is kept elsewhere, by a link to it,
// is replaced there.
func File(path string, mode Mode, change func(old []byte) ([]byte, error)) (changed bool, err error) {
	if path, err = behindLinks(path); err != nil {
		return false, err
	}
	next, err := begin(path + ".postern-new")
	if err != nil {
		return false, err
	}
	changed, err = replace(next, path, mode, change)
	if err != nil || !changed {
		next.Close()
		os.Remove(next.Name())
	}
	return changed, err
}

// behindLinks gives the file that is meant by a link to it, and refuses what is none.
func behindLinks(path string) (string, error) {
	if err := CheckRegular(path); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return real, err
}

// patience is how long to wait for another program that writes.
const patience = 2 * time.Second

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

func replace(next *os.File, path string, mode Mode, change func([]byte) ([]byte, error)) (bool, error) {
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
	if _, err := next.Write(text); err != nil {
		return false, err
	}
	if mode == Private {
		perm = 0o600
	}
	if runtime.GOOS != "windows" { // it has no such modes
		if err := next.Chmod(perm); err != nil {
			return false, err
		}
	}
	if err := next.Sync(); err != nil {
		return false, err
	}
	if err := next.Close(); err != nil {
		return false, err
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return false, err
	}
	syncFolder(filepath.Dir(path))
	return true, nil
}

// read gives a file's text and mode; nil if there is none.
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
		return nil, 0, fmt.Errorf("%q is too large for a configuration", path)
	}
	text := make([]byte, info.Size())
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, 0, err
	}
	return text, info.Mode().Perm(), nil
}

// syncFolder makes sure that the new name outlives a power failure. Not every
// system has a way to, and the file is whole without.
func syncFolder(path string) {
	if folder, err := os.Open(path); err == nil {
		folder.Sync()
		folder.Close()
	}
}
