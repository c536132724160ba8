package hosts

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"postern/internal/document"
	"postern/internal/rewrite"
)

// Path returns the path of this user's hosts file: ~/.config/postern/hosts.yaml
// on Linux.
func Path() (string, error) {
	config, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(config, "postern", "hosts.yaml"), nil
}

// Read reads a hosts file. A missing file has no hosts; something that is not a
// regular file is a *rewrite.NotRegularError.
func Read(path string) (*File, error) {
	if err := rewrite.CheckRegular(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than the maximum, so that Parse sees that it is too long.
	text, err := io.ReadAll(io.LimitReader(f, document.MaxSize+1))
	if err != nil {
		return nil, err
	}
	hosts, err := read(path, text)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Windows has no such bits; Go invents some. A file without hosts exposes
	// no knocks.
	hosts.Exposed = len(hosts.Hosts) > 0 && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
	return hosts, nil
}

// Add adds a host to the file at path, which is created if it is missing. Its
// mode becomes 0600. The error is an *ExistsError, an *UneditableError, a
// *rewrite.BusyError, a *document.InvalidError or a *FileError.
func Add(path string, h Host, on IfExists) error {
	return change(path, func(f *File) ([]byte, error) { return f.With(h, on) })
}

// Remove removes the host of a name from the file at path, whose mode becomes 0600. The
// error is a *NotFoundError, or one as Add returns it.
func Remove(path, name string) error {
	return change(path, func(f *File) ([]byte, error) {
		h, err := f.Get(name)
		if err != nil {
			return nil, err
		}
		return f.Without(h)
	})
}

// change changes the text of a file.
func change(path string, do func(*File) ([]byte, error)) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fileError("write", path, err)
	}
	_, err := rewrite.File(path, rewrite.Private, func(text []byte) ([]byte, error) {
		f, err := read(path, text)
		if err != nil {
			return nil, err
		}
		f.Path = path
		return do(f)
	})
	unknown, _ := errors.AsType[*NotFoundError](err)
	exists, _ := errors.AsType[*ExistsError](err)
	uneditable, _ := errors.AsType[*UneditableError](err)
	busy, _ := errors.AsType[*rewrite.BusyError](err)
	if err == nil || unknown != nil || exists != nil || uneditable != nil || busy != nil {
		return err
	}
	return fileError("write", path, err)
}

// read parses a hosts file; an empty one has no hosts.
func read(path string, text []byte) (*File, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return &File{}, nil
	}
	return Parse(path, text)
}
