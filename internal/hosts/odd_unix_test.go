//go:build unix

package hosts

import (
	"os"

	"golang.org/x/sys/unix"
)

// odd creates things other than a regular file.
var odd = map[string]func(path string) error{
	"a folder":           func(path string) error { return os.Mkdir(path, 0o700) },
	"a pipe":             func(path string) error { return unix.Mkfifo(path, 0o600) },
	"a device":           func(path string) error { return os.Symlink(os.DevNull, path) },
	"a link to nowhere":  func(path string) error { return os.Symlink(path+".gone", path) },
	"a link to a folder": func(path string) error { return os.Symlink(os.TempDir(), path) },
}
