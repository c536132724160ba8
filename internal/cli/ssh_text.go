package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
	"postern/internal/sshconfig"
)

const (
	shortSSH = "log in to a host by ssh, through its door"
	longSSH  = `Runs ssh, which knocks and connects by "postern connect NAME". NAME is one of the
hosts file. All other arguments are ssh's, before or after the name, and so is
what it asks, prints and exits with.

Address, port and user are the hosts file's, unless ssh is told another user. The rest is
your own ssh configuration's for NAME, and the key of the host is known by its
address, as ever.

Where the door stays shut, ssh adds lines of its own to the error, with "mm_receive_fd"
and "proxy dialer" in them: they mean nothing more.

What ssh would do by connecting itself is not to be had: -J, -4, -6, -b, -p. To go on
from there to another host, see "postern ssh-config --install".`
	exampleSSH = `  postern ssh home
  postern ssh ann@home -L 8080:localhost:80 uptime
  rsync -e "postern ssh" -a photos/ home:photos/
  GIT_SSH_COMMAND="postern ssh" git clone home:project`

	hintInstallSSH = "install OpenSSH's client: the package openssh-client, openssh-clients or openssh, by the system's name for it"
)

func noSSH(err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeUnsupported, Message: "there is no ssh to run", Hints: []string{hintInstallSSH}, Err: err}
}

func notRun(program string, err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("cannot run %q: %v", program, err), Err: err}
}

func notSSH(h *hosts.Host) *ui.Failure {
	return &ui.Failure{
		Code: ui.CodeFailed, Message: fmt.Sprintf("%s is %s, and ssh speaks TCP", h.Name, h.Service),
		Hints: []string{fmt.Sprintf("\"postern knock %s\", and then its own client", h.Name)},
	}
}

// clashes says why an option of ssh's cannot be heeded, and what to do instead: with those
// flags the hosts file says the same, if there are any.
func clashes(h *hosts.Host, c *sshconfig.Conflict, flags string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeUsage}
	switch c.Kind {
	case sshconfig.OtherProxy:
		f.Message = fmt.Sprintf("with %s nothing knocks at %s", c.Option.Written, h.Name)
		f.Hints = []string{
			fmt.Sprintf("to come to another host by way of it: \"postern ssh-config --install %s\", then ssh -J %s OTHER", h.Name, h.Name),
		}
	case sshconfig.OtherDestination:
		f.Message = fmt.Sprintf("%s asks for another place than the hosts file's: %s of %s", c.Option.Written, h.Service, h.Address)
		f.Hints = []string{"leave it out"}
		if flags != "" {
			f.Hints[0] += fmt.Sprintf(", or change the hosts file: \"postern add --force %s %s\"", h.Name, flags)
		}
	default:
		f.Message = fmt.Sprintf("%s has no effect where ssh does not connect by itself", c.Option.Written)
		f.Hints = []string{"leave it out: a connection starts from the address that the knocks came from"}
	}
	return f
}
