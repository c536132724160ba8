package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/sshconfig"
)

const (
	shortSSHConfig = "set up ssh, scp, sftp and git to use a door"
	longSSHConfig  = `Prints a block for ssh's configuration, with which ssh knocks at a saved host
whenever it is called by NAME or by the host's address. Then "ssh NAME" does, and
so does whatever uses ssh: scp, sftp, rsync, git, an editor, "ssh -J NAME OTHER".
The block holds the address, the port and the user; the knocks stay in the hosts
file.

With --install the block goes to a file of its own, ~/.ssh/postern.conf, in place
of the host's earlier one, and ~/.ssh/config includes that file in its first line.
Nothing else in it changes. Run it again after an address, a port or a user has
changed.

To undo it, delete the block. To undo all, delete ~/.ssh/postern.conf and the
line "Include postern.conf".`
	exampleSSHConfig = `  postern ssh-config home
  postern ssh-config --install home && scp notes.txt home:`

	flagInstall = "put the block into ~/.ssh/postern.conf, and include that in ~/.ssh/config"

	hintBusySSH  = "try again"
	hintMoveSSH  = "move it away, and try again"
	hintSSHOwner = "the folder and what is in it must belong to the user that runs ssh: see who owns them"
)

func (s *session) sayInstalled(name string, done *sshconfig.Installed) {
	file, config := document.QuotedPath(done.File), document.QuotedPath(done.Config)
	switch {
	case done.Changed && done.Included:
		s.Say("wrote %s, and included it in %s", file, config)
	case done.Changed:
		s.Say("wrote %s", file)
	case done.Included:
		s.Say("included %s in %s", file, config)
	default:
		s.Say("ssh knows %s already; nothing has changed", name)
		return
	}
	s.Hint(fmt.Sprintf("now \"ssh %s\" knocks", name))
}

func rivalBlock(name string, done *sshconfig.Installed) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("there is another block for %s in line %d of %s: it counts only for options that %s does not set",
			name, done.OtherBlock, document.QuotedPath(done.Config), document.QuotedPath(done.File)),
	}
}

func leftBlock(name, file string) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("%s has a block for %s, which is not in the hosts file any more", document.QuotedPath(file), name),
		Hints:   []string{"delete the block, or add the host again: \"ssh " + name + "\" fails as it is"},
	}
}

// addressTaken is about two hosts at one address.
func addressTaken(way *sshconfig.Host, done *sshconfig.Installed) ui.Remark {
	return ui.Remark{Note: true, Message: fmt.Sprintf("\"ssh %s\" goes to %s, whose block has that address already", way.Address, done.AddressOf)}
}

func noSSHFolder(err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("cannot find the ssh configuration of this user: %v", err), Err: err}
}

func sayNotInstalled(folder string, err error) string {
	return fmt.Sprintf("cannot change ssh's configuration in %s: %v", document.QuotedPath(folder), err)
}
