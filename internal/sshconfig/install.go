package sshconfig

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"postern/internal/rewrite"
)

// fileName is the file with our blocks, beside the user's own configuration.
const fileName = "postern.conf"

const preface = `# Hosts behind doors, written by "postern ssh-config --install". It replaces only
# the block of the host that it is given. To remove a host, delete its block.
`

// Dir returns the directory of this user's ssh configuration. Like ssh, it
// looks in the system's user database, not at $HOME.
func Dir() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return filepath.Join(u.HomeDir, ".ssh"), nil
}

// Installed is the result of Install.
type Installed struct {
	File     string // the file with the block
	Config   string // the configuration that includes it
	Changed  bool   // the file has changed
	Included bool   // the configuration has changed
	// OtherBlock is the line of a block for the same name in the user's own
	// configuration, or 0. ssh takes from it what our block does not set.
	OtherBlock int
	// AddressOf is the host whose block has h's address already, or "". Two hosts
	// may share an address; ssh takes the first block.
	AddressOf string
	// Blocks are the hosts that have a block in File.
	Blocks []string
}

// Install writes a host's block to a file of its own in the folder, and makes
// the user's configuration include it. Missing files are created, readable only
// by the user. Each file is replaced as a whole or not at all, and only if it
// changes.
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
		if done.AddressOf = addressOf(text, h); done.AddressOf != "" {
			named := *h
			named.ByAddress = false
			h = &named
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
		done.OtherBlock = lineNaming(text, h.Name)
		return text
	})
	return done, err
}

// change replaces the text of a file by what edit returns for it.
func change(path string, edit func(string) string) (changed bool, err error) {
	return rewrite.File(path, rewrite.KeepMode, func(old []byte) ([]byte, error) { return []byte(edit(string(old))), nil })
}
