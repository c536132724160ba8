package cli

import "postern/internal/cli/ui"

const (
	shortRevoke = "take back what a knock or a grant has given"
	longRevoke  = `Takes the grant of DOOR from an address, and from everyone whom the policy takes
for the same source; with --all, every grant of every door. It does not matter
whether the grant was given by a knock or by "postern grant". Connections that
are open go on, unless --cut says otherwise. Who knows the knock can knock again.

--cut ends the connections of the address with the services of DOOR, whoever let
them in: with --all, all connections with services that doors hide. Your own, by
which you are logged in, goes on.`
	exampleRevoke = `  postern revoke ssh 198.51.100.7 --cut
  postern revoke --all`
	flagRevokeAll = "take back all grants of all doors"
	flagCut       = "end connections that are open, too"
)

func (s *session) sayRevoked(r revoked) {
	switch {
	case r.Address != "" && r.Grants == 0:
		s.Say("%s held no grant of door %s", r.Address, r.Door)
	case r.Address != "":
		s.Say("revoked: %s has no grant of door %s any more", r.Address, r.Door)
	default:
		s.Say("revoked: %s", ui.Count(r.Grants, "grant"))
	}
	if r.Cut == nil {
		return
	}
	s.Say("cut: %s", ui.Count(r.Cut.Connections, "connection"))
	if r.Cut.Own > 0 {
		s.Say("%s", sayOwnSpared)
	}
}

const sayOwnSpared = "the connection by which you are logged in goes on"
