package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/hosts"
)

const (
	shortRemove = "remove a host from the hosts file, and its key"
	longRemove  = `Removes a saved host from the hosts file, and its key from the system's key
store if that has it. The rest of the file stays as it is.

The key still opens the door for anyone who has a copy of it: "postern user
revoke" on the server ends that.`
	exampleRemove = `  postern remove home`
)

func (s *session) sayHostRemoved(h *hosts.Host, path string) {
	s.Say("removed %q from %s", h.Name, document.QuotedPath(path))
	if h.Stored {
		s.Say("its key is deleted from the system's key store")
	}
}

func notRemoved(h *hosts.Host, path string) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("%s is valid, but written in a way that remove cannot edit", document.QuotedPath(path)),
		Hints: []string{fmt.Sprintf("delete the host %q, on line %d, by hand", h.Name, h.Pos.Line)}}
}
