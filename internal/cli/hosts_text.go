package cli

import (
	"errors"
	"fmt"
	"strconv"

	"postern/internal/hosts"
	"postern/internal/rewrite"
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

func (v *voice) sayNoHosts(path string) {
	v.say("no hosts yet, in %q", path)
	v.hint("\"postern add\" puts one there")
}

func sayHostsUnread(path string, err error) string {
	return fmt.Sprintf("cannot read the hosts file %q: %v", path, err)
}

func sayHostsUnwritten(path string, err error) string {
	return fmt.Sprintf("cannot write the hosts file %q: %v", path, err)
}

func oddPlace(e *rewrite.PlaceError) error { return errors.New("it " + e.What) }

func noHome(err error) *failure {
	return &failure{Code: codeFailed, Message: "this user has no folder for settings: " + err.Error(), Hints: []string{hintNoHome}, err: err}
}

func exposed(path string) remark {
	return remark{Message: fmt.Sprintf("others can read %q, and the knocks in it", path), Hints: []string{fmt.Sprintf("chmod 600 %q", path)}}
}

func wasExposed(path string) remark {
	return remark{Note: true, Message: fmt.Sprintf("others could read %q until now, and the knocks in it: it is yours alone again", path)}
}

func noSuchHost(name, path, near string) *failure {
	f := &failure{Code: codeUsage, Message: fmt.Sprintf("there is no host %q in %q", name, path)}
	if near != "" {
		f.Hints = []string{fmt.Sprintf("did you mean %q?", near)}
	} else {
		f.Hints = []string{"\"postern hosts\" lists those there are, and \"postern add\" adds one"}
	}
	return f
}
