package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
	"postern/internal/sshconfig"
)

const (
	shortSSH = "log in to a host by ssh, through its door"
	longSSH  = `Runs ssh, which knocks and connects by "postern connect NAME". NAME is a saved
host. All other arguments are ssh's, before or after the name, and so are its
prompts, its output and its exit code.

Address, port and user are those of the saved host, unless ssh is given another
user. All else is your own ssh configuration's for NAME, and the host's key is
known by its address, as without postern.

If the door is still shut after a second, a line says so; -q silences it. If it
stays shut, ssh adds lines of its own to the error, with "mm_receive_fd" and
"proxy dialer" in them: they mean nothing more.

Options that need ssh itself to connect are refused: -J, -4, -6, -b, -p. To
connect from there to another host, see "postern ssh-config --install".`
	exampleSSH = `  postern ssh home
  postern ssh ann@home -L 8080:localhost:80 uptime
  rsync -e "postern ssh" -a photos/ home:photos/
  GIT_SSH_COMMAND="postern ssh" git clone home:project`
)

// clashes says why an option of ssh cannot be used, and what to do instead: those
// flags, if any, save the same.
func clashes(h *hosts.Host, c *sshconfig.Conflict, flags string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeUsage}
	switch c.Kind {
	case sshconfig.OtherProxy:
		f.Message = fmt.Sprintf("with %s nothing knocks at %s", c.Option.Written, h.Name)
		f.Hints = []string{
			fmt.Sprintf("to reach another host through it: \"postern ssh-config --install %s\", then ssh -J %s OTHER", h.Name, h.Name),
		}
	case sshconfig.OtherDestination:
		f.Message = fmt.Sprintf("%s asks for another destination than the saved one, %s of %s", c.Option.Written, h.Service, h.Address)
		f.Hints = []string{"leave it out"}
		if flags != "" {
			f.Hints[0] += fmt.Sprintf(", or change the saved host: \"postern add --force %s %s\"", h.Name, flags)
		}
	default:
		f.Message = fmt.Sprintf("%s has no effect, as ssh does not connect by itself here", c.Option.Written)
		f.Hints = []string{"leave it out: a connection starts from the address that the knocks came from"}
	}
	return f
}
