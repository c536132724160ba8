package sshconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"time"
)

// fileName is that of the file that our blocks are kept in, beside the user's own.
const fileName = "postern.conf"

const preface = `# Ways through doors, written by "postern ssh-config --install", which replaces
# the block of the host that it is told, and leaves the rest alone. To take a host
# out, delete its block.
`

// Folder is where ssh looks for this user's configuration. It does not go by the
// environment's HOME but by the system's list of users.
func Folder() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return filepath.Join(u.HomeDir, ".ssh"), nil
}

// Installed is what Install has done, and found.
type Installed struct {
	File     string // that has the block
	Config   string // that includes it
	Changed  bool   // the file is another than before
	Included bool   // the user's configuration is
	// Rival is the line of the user's configuration that has a block for the same
	// name, or 0. It holds for what ours does not say.
	Rival int
	// Blocks are the hosts that the file has blocks for.
	Blocks []string
}

// Install puts a host's block into a file of its own in the folder, and has the user's
// configuration include it. What is not there is made, readable by the user alone. Each of the two
// files is replaced as a whole or not at all; where nothing changes, nothing is written.
func Install(folder string, h *Host) (*Installed, error) {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	done := &Installed{File: filepath.Join(folder, fileName), Config: filepath.Join(folder, "config")}
	var err error
	done.Changed, err = rewrite(done.File, func(text string) string {
		if text == "" {
			text = preface
		}
		text = withBlock(text, h)
		done.Blocks = blocks(text)
		return text
	})
	if err != nil {
		return nil, err
	}
	done.Included, err = rewrite(done.Config, func(text string) string {
		text = included(text, folder)
		done.Rival = naming(text, h.Name)
		return text
	})
	return done, err
}

// A BusyError says that another program seems to be writing a file.
type BusyError struct{ Path string } // of what it writes first

func (e *BusyError) Error() string {
	return fmt.Sprintf("%q is there: another postern is writing it, or was killed while it did", e.Path)
}

// patience is how long to wait for another program that writes.
const patience = 2 * time.Second

// maxSize keeps what is read small: nobody writes as much by hand.
const maxSize = 16 << 20

// rewrite has change make a file's text anew, and tells whether it did. What is
// written first can be made but once, and so is also the lock between two that write.
func rewrite(path string, change func(string) string) (bool, error) {
	path, err := behindLinks(path)
	if err != nil {
		return false, err
	}
	next, err := begin(path + ".postern-new")
	if err != nil {
		return false, err
	}
	changed, err := replace(next, path, change)
	if err != nil || !changed {
		next.Close()
		os.Remove(next.Name())
	}
	return changed, err
}

// behindLinks gives the file that is meant by a link to it.
func behindLinks(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real, nil
	}
	if _, here := os.Lstat(path); here == nil && errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%q is a link that leads nowhere", path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return "", err
}

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

func replace(next *os.File, path string, change func(string) string) (changed bool, err error) {
	mode := fs.FileMode(0o600)
	old := ""
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return false, fmt.Errorf("%q is no file", path)
	case err == nil && info.Size() > maxSize:
		return false, fmt.Errorf("%q is too large for a configuration", path)
	case err == nil:
		text, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		old, mode = string(text), info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	text := change(old)
	if text == old {
		return false, nil
	}
	if _, err := next.WriteString(text); err != nil {
		return false, err
	}
	if runtime.GOOS != "windows" { // it has no such modes
		if err := next.Chmod(mode); err != nil {
			return false, err
		}
	}
	if err := next.Sync(); err != nil {
		return false, err
	}
	if err := next.Close(); err != nil {
		return false, err
	}
	return true, os.Rename(next.Name(), path)
}
