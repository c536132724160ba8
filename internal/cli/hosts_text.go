package cli

import (
	"errors"
	"fmt"
	"strconv"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
	"postern/internal/rewrite"
)

const (
	shortHosts = "list the hosts that a name is enough to knock at"
	longHosts  = `Lists the hosts file: ~/.config/postern/hosts.yaml on Linux, elsewhere in the
user's folder for settings. Of the knocks, which are a secret, it says how many
they are. To take a host out, delete its lines from the file.`
	exampleHosts = `  postern hosts
  postern hosts --secrets`
	flagSecrets = "show the knocks themselves"
)

const (
	hintNoHome     = "set HOME, or XDG_CONFIG_HOME"
	hintHostsOwner = "it must belong to the user that knocks: see who owns it, and its folder"
	hintMoveHosts  = "move it away: \"postern add\" makes a new one"
)

var headHosts = []string{"NAME", "ADDRESS", "SERVICE", "KNOCKS", "USER"}

func hostRow(h *hosts.Host, show secrecy) []string {
	knocks, user := strconv.Itoa(len(h.Knock)), h.User
	if show == disclosed {
		knocks = h.Sequence()
	}
	if user == "" {
		user = "-"
	}
	return []string{h.Name, h.Address, h.Service.String(), knocks, user}
}

func (s *session) sayNoHosts(path string) {
	s.Say("no hosts yet, in %q", path)
	s.Hint("\"postern add\" puts one there")
}

func sayHostsUnread(path string, err error) string {
	return fmt.Sprintf("cannot read the hosts file %q: %v", path, err)
}

func sayHostsUnwritten(path string, err error) string {
	return fmt.Sprintf("cannot write the hosts file %q: %v", path, err)
}

func oddPlace(e *rewrite.NotRegularError) error { return errors.New("it " + e.What) }

func noHome(err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: "this user has no folder for settings: " + err.Error(), Hints: []string{hintNoHome}, Err: err}
}

func exposed(path string) ui.Remark {
	return ui.Remark{Message: fmt.Sprintf("others can read %q, and the knocks in it", path), Hints: []string{fmt.Sprintf("chmod 600 %q", path)}}
}

func wasExposed(path string) ui.Remark {
	return ui.Remark{Note: true, Message: fmt.Sprintf("others could read %q until now, and the knocks in it: it is yours alone again", path)}
}

func noSuchHost(name, path, near string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("there is no host %q in %q", name, path)}
	if near != "" {
		f.Hints = []string{fmt.Sprintf("did you mean %q?", near)}
	} else {
		f.Hints = []string{"\"postern hosts\" lists those there are, and \"postern add\" adds one"}
	}
	return f
}
