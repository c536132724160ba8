package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/sshconfig"
)

const (
	shortSSHConfig = "have ssh itself, scp, sftp and git know a host behind a door"
	longSSHConfig  = `Prints what makes ssh knock at a host of the hosts file whenever it is called by
NAME: a block for its configuration. Then "ssh NAME" does, and whatever uses ssh:
scp, sftp, rsync, git, an editor, "ssh -J NAME OTHER". The hosts file goes on saying
how to knock; the block holds the address, the port and the user, but no knocks.

With --install the block goes to a file of its own, ~/.ssh/postern.conf, in place of
the host's earlier one, and ~/.ssh/config includes that file in its first line.
Nothing else in it changes. Run it again where an address, a port or a user has changed.

To undo it, delete the block. To undo all, delete ~/.ssh/postern.conf and the line
"Include postern.conf".`
	exampleSSHConfig = `  postern ssh-config home
  postern ssh-config --install home && scp notes.txt home:`

	flagInstall = "put the block into ~/.ssh/postern.conf, and have ~/.ssh/config include it"

	hintBusySSH  = "try again"
	hintMoveSSH  = "move it away, and try again"
	hintSSHOwner = "the folder and what is in it must belong to the user that runs ssh: see who owns them"
)

func (s *session) sayInstalled(name string, done *sshconfig.Installed) {
	switch {
	case done.Changed && done.Included:
		s.Say("wrote %q, and included it in %q", done.File, done.Config)
	case done.Changed:
		s.Say("wrote %q", done.File)
	case done.Included:
		s.Say("included %q in %q", done.File, done.Config)
	default:
		s.Say("ssh knows %s already: nothing has changed", name)
		return
	}
	s.Hint(fmt.Sprintf("now \"ssh %s\" knocks", name))
}

func rivalBlock(name string, done *sshconfig.Installed) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("there is another block for %s in line %d of %q: it holds only where %q is silent", name, done.OtherBlock, done.Config, done.File),
	}
}

func leftBlock(name, file string) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("%q has a block for %s, which is not in the hosts file any more", file, name),
		Hints:   []string{"delete the block, or add the host again: \"ssh " + name + "\" fails as it is"},
	}
}

func noSSHFolder(err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("cannot tell where this user's ssh is configured: %v", err), Err: err}
}

func sayNotInstalled(folder string, err error) string {
	return fmt.Sprintf("cannot change ssh's configuration in %q: %v", folder, err)
}
