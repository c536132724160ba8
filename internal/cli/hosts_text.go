package cli

import (
	"strconv"

	"postern/internal/document"
	"postern/internal/hosts"
)

const (
	shortHosts = "list saved hosts"
	longHosts  = `Lists the hosts file: ~/.config/postern/hosts.yaml on Linux, elsewhere in the
user's folder for settings. The knocks are a secret: it shows only how many there
are. To remove a host, delete its lines from the file.`
	exampleHosts = `  postern hosts
  postern hosts --secrets`
	flagSecrets = "show the knocks themselves"
)

var headHosts = []string{"NAME", "ADDRESS", "SERVICE", "KNOCKS", "USER"}

func hostRow(h *hosts.Host, show hosts.Secrecy) []string {
	knocks, user := strconv.Itoa(len(h.Knock)), h.User
	if show == hosts.Disclosed {
		knocks = h.Sequence()
	}
	if user == "" {
		user = "-"
	}
	return []string{h.Name, h.Address, h.Service.String(), knocks, user}
}

func (s *session) sayNoHosts(path string) {
	s.Say("no saved hosts yet, in %s", document.QuotedPath(path))
	s.Hint("\"postern add\" adds one")
}
