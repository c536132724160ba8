package cli

import (
	"fmt"
	"net/netip"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
)

const (
	shortClose = "close a host's door again"
	longClose  = `Sends what closes the door of a saved host: the knocks of its "close", or a
token of its key. The server then forgets what it has granted to this machine's
address, before it ends by itself. Open connections go on, unless the policy of
the server says "on_close: cut".

Nobody answers, so nothing shows that it has arrived. postern looks whether a
connection still comes about, tries again if one does, and says what it saw: no
connection is what it looks like, too, where the host is down. A service of UDP
answers nobody, and is not looked at.`
	exampleClose = `  postern close home`
)

func (s *session) sayClosed(h *hosts.Host, to []netip.Addr, looked bool) {
	words := make([]string, len(to))
	for i, a := range to {
		words[i] = a.String()
	}
	at := fmt.Sprintf("%s of %s", h.Service, ui.List(words))
	if !looked {
		s.Say("sent to close %s; nothing shows whether it has arrived", at)
		return
	}
	s.Say("closed: %s lets no new connection in from here", at)
}
