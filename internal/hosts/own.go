package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime"
	"strings"

	"postern/internal/document"
	"postern/internal/rewrite"
)

// Own reads the hosts file of this user. The error is a *NoFolderError, a *FileError
// or a *document.InvalidError.
func Own() (*File, error) {
	path, err := Path()
	if err != nil {
		return nil, &NoFolderError{err}
	}
	file, err := Read(path)
	if err != nil {
		return nil, fileError("read", path, err)
	}
	file.Path = path
	return file, nil
}

// Get returns the host of that name. The error is a *NotFoundError.
func (f *File) Get(name string) (*Host, error) {
	if h := f.Find(name); h != nil {
		return h, nil
	}
	return nil, &NotFoundError{name, f}
}

// A NotFoundError reports that the hosts file has no host of that name.
type NotFoundError struct {
	Name string
	File *File
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("host %q does not exist in %s", e.Name, document.QuotedPath(e.File.Path))
}

// Hints returns which host was meant, if that can be guessed.
func (e *NotFoundError) Hints() []string {
	if near := e.File.Nearest(e.Name); near != "" {
		return []string{fmt.Sprintf("did you mean %q?", near)}
	}
	if _, host, found := strings.Cut(e.Name, "@"); found && e.File.Find(host) != nil {
		return []string{fmt.Sprintf("did you mean %q? the user is for ssh to know", host)}
	}
	if _, err := netip.ParseAddr(e.Name); err == nil {
		return []string{fmt.Sprintf("\"postern add NAME --address %s --knock …\" saves it under a name", e.Name)}
	}
	return []string{"\"postern hosts\" lists saved hosts, \"postern add\" adds one"}
}

// A NoFolderError reports that this user has no folder for settings.
type NoFolderError struct{ Err error }

func (e *NoFolderError) Error() string {
	return "this user has no folder for settings: " + e.Err.Error()
}

func (e *NoFolderError) Unwrap() error   { return e.Err }
func (e *NoFolderError) Hints() []string { return []string{setFolder(runtime.GOOS)} }

// setFolder is how a system is told where a user's settings are.
func setFolder(system string) string {
	switch system {
	case "windows":
		return "set APPDATA"
	case "darwin":
		return "set HOME"
	}
	return "set HOME, or XDG_CONFIG_HOME"
}

// A FileError reports that the hosts file cannot be read or written.
type FileError struct {
	Op   string // "read" or "write"
	Path string
	Err  error
}

// fileError explains an error of the hosts file; what is wrong inside it explains
// itself.
func fileError(op, path string, err error) error {
	if _, ok := errors.AsType[*document.InvalidError](err); ok {
		return err
	}
	return &FileError{op, path, err}
}

func (e *FileError) Error() string {
	return fmt.Sprintf("cannot %s the hosts file %s: %s", e.Op, document.QuotedPath(e.Path), rewrite.Reason(e.Err))
}

func (e *FileError) Unwrap() error { return e.Err }

func (e *FileError) Hints() []string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return []string{"it must belong to the user that knocks: check the owner of the file and of its folder"}
	}
	if _, ok := errors.AsType[*rewrite.NotRegularError](e.Err); ok {
		return []string{"move it away: \"postern add\" makes a new one"}
	}
	return nil
}
