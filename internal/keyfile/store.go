package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"postern/internal/document"
	"postern/internal/rewrite"
)

// Read reads a keys file. A missing one has no devices. The error is a *FileError or a
// *document.InvalidError.
func Read(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fileError("read", path, err)
	}
	f.Path = path
	return f, nil
}

func open(path string) (*File, error) {
	if err := rewrite.CheckRegular(path); err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{Missing: true}, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	// One byte more than the maximum, so that Parse sees that it is too long.
	text, err := io.ReadAll(io.LimitReader(in, MaxSize+1))
	if err != nil {
		return nil, err
	}
	f, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	f.Exposed = runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 || foreign(info)
	return f, nil
}

// parse parses a keys file; an empty one has no devices.
func parse(path string, text []byte) (*File, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return &File{}, nil
	}
	return Parse(path, text)
}

// Change has a function change the keys in a file, which is created if it is missing,
// and reports whether the file has changed. Its mode becomes 0600. Nobody else writes
// it meanwhile. The error is the function's, a *rewrite.BusyError, a
// *document.InvalidError or a *FileError.
func Change(path string, change func(*File) error) (changed bool, err error) {
	var refused error
	changed, err = rewrite.File(path, rewrite.Private, func(text []byte) ([]byte, error) {
		f, err := parse(path, text)
		if err != nil {
			return nil, err
		}
		f.Path = path
		if refused = change(f); refused != nil {
			return nil, refused
		}
		return f.Format(), nil
	})
	busy, _ := errors.AsType[*rewrite.BusyError](err)
	if err == nil || refused != nil || busy != nil {
		return changed, err
	}
	return changed, fileError("write", path, err)
}

// A FileError reports that a keys file cannot be read or written.
type FileError struct {
	Op   string // "read" or "write"
	Path string
	Err  error
}

// fileError explains an error of a keys file; what is wrong inside it explains itself.
func fileError(op, path string, err error) error {
	if _, ok := errors.AsType[*document.InvalidError](err); ok {
		return err
	}
	return &FileError{op, path, err}
}

func (e *FileError) Error() string {
	return fmt.Sprintf("cannot %s the keys file %s: %s", e.Op, document.QuotedPath(e.Path), rewrite.Reason(e.Err))
}

func (e *FileError) Unwrap() error { return e.Err }

// Hints returns what to do about it.
func (e *FileError) Hints() []string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return []string{"only root can, as a rule: try it with sudo"}
	}
	return nil
}
