package sshconfig

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"postern/internal/rewrite"
)

// fileName is that of the file that our blocks are kept in, beside the user's own.
const fileName = "postern.conf"

const preface = `# Ways through doors, written by "postern ssh-config --install", which replaces
# the block of the host that it is told, and leaves the rest alone. To take a host
# out, delete its block.
`

// Dir is where ssh looks for this user's configuration. It does not go by the
// environment's HOME but by the system's list of users.
func Dir() (string, error) {
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
	// OtherBlock is the line of the user's configuration that has a block for the same
	// name, or 0. It holds for what ours does not say.
	OtherBlock int
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
	done.Changed, err = change(done.File, func(text string) string {
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
	done.Included, err = change(done.Config, func(text string) string {
		text = included(text, folder)
		done.OtherBlock = naming(text, h.Name)
		return text
	})
	return done, err
}

// change has a function make a file's text anew.
func change(path string, anew func(string) string) (changed bool, err error) {
	return rewrite.File(path, rewrite.KeepMode, func(old []byte) ([]byte, error) { return []byte(anew(string(old))), nil })
}
