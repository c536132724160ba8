package cli

import (
	"strconv"

	"postern/internal/document"
	"postern/internal/hosts"
)

const (
	shortHosts = "list saved hosts"
	longHosts  = `Lists the hosts file: ~/.config/postern/hosts.yaml on Linux, elsewhere in the
user's folder for settings. Knocks and keys are secrets: it shows only how many
knocks there are, or that there is a key, or that the key is in the system's key
store. A link does not say whose key it has; the number after "key" is that of the
device in keys.yaml on the server. SSH USER is the user that ssh takes; without
one ssh decides. "postern remove" removes a host.`
	exampleHosts = `  postern hosts
  postern hosts --secrets`
	flagSecrets = "show the knocks and keys themselves"
)

var headHosts = []string{"NAME", "ADDRESS", "SERVICE", "KNOCKS", "SSH USER"}

func hostRow(h *hosts.Host, show hosts.Secrecy) []string {
	knocks, user := strconv.Itoa(len(h.Knock)), h.User
	switch {
	case h.Stored:
		knocks = "keyring"
	case h.Key != nil && show == hosts.Disclosed:
		knocks = h.Key.Encode()
	case h.Key != nil:
		knocks = "key " + h.Key.Device.String()
	case show == hosts.Disclosed:
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
