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

// Path is where this user's hosts file is, by the habits of the system:
// ~/.config/postern/hosts.yaml on Linux.
func Path() (string, error) {
	config, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(config, "postern", "hosts.yaml"), nil
}

// Read reads a hosts file. One that is not there holds no hosts; what is there and
// no file is a *rewrite.NotRegularError.
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
	// One byte more than a file may have, for Parse to see that it is too long.
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
	// Windows has no such bits: what Go makes up for them says nothing. Where there is
	// no host there is no knock.
	hosts.Exposed = len(hosts.Hosts) > 0 && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
	return hosts, nil
}

// Add adds a host to the file at path, and makes the file if there is none. What was
// the file's mode is 0600 then.
func Add(path string, h Host, on IfExists) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	_, err := rewrite.File(path, rewrite.Private, func(text []byte) ([]byte, error) {
		old, err := read(path, text)
		if err != nil {
			return nil, err
		}
		return old.With(h, on)
	})
	return err
}

// read reads what a hosts file holds. An empty one is as good as none.
func read(path string, text []byte) (*File, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return &File{}, nil
	}
	return Parse(path, text)
}
