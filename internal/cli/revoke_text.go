package cli

import (
	"errors"
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/document"
)

const (
	shortRevoke = "take back what a knock or a grant has given"
	longRevoke  = `Takes the grant of DOOR from an address, and from everyone whom the policy takes
for the same source; with --all, every grant of every door. It does not matter whether
the grant was given by a knock, a key or "postern grant". With --user, it takes
what the keys of that user's devices have given, and nothing else. Connections that are open
go on, unless --cut says otherwise. Who knows the knock can knock again, and who
has a key can use it again: "postern user revoke" takes keys away.

--cut ends the connections of the address with the services of DOOR, whatever let
them in: with --all, all connections with services that doors hide; with --user,
those from where the user's keys have opened the door in the last five days.
Where another user's key has, too, they go on, and are listed. The connection you
are logged in by is kept; others of yours from the same address are not.`
	exampleRevoke = `  postern revoke ssh 198.51.100.7 --cut
  postern revoke --all`
	flagRevokeUser = "take back what the keys of this user have opened"
	flagRevokeAll  = "take back all grants of all doors"
	flagCut        = "end connections that are open, too"
)

var errNotUser = errors.New("name a door and an address (to shut a person out: postern user revoke NAME)")

func (s *session) sayRevoked(r revoked) {
	switch {
	case r.Address != "" && r.Grants == 0:
		s.Say("%s held no grant of door %s", r.Address, r.Door)
	case r.Address != "":
		s.Say("revoked: %s has no grant of door %s any more", r.Address, r.Door)
	case r.User != "" && r.Grants == 0:
		s.Say("the keys of %s have no grants left", r.User)
	default:
		s.Say("revoked: %s", ui.Count(r.Grants, "grant"))
	}
	s.warnPartial(r.Partial)
	if r.Cut == nil {
		return
	}
	s.Say("cut: %s", ui.Count(r.Cut.Connections, "connection"))
	s.warnMayGoOn(r.Cut)
	s.sayKept(r.Cut)
	s.sayGoOn(r.Cut.Left)
}

// sayKept says that the caller's own connections go on.
func (s *session) sayKept(c *cut) {
	switch {
	case c.Own == 1:
		s.Say("kept the connection you are logged in by")
	case c.Own > 1:
		s.Say("kept the %d connections by which you are logged in, or may be", c.Own)
	}
}

// warnMayGoOn warns of connections that the loaded rules cannot keep from going on.
func (s *session) warnMayGoOn(c *cut) {
	if c.MayGoOn > 0 {
		s.Warn(ui.Remark{
			Message: fmt.Sprintf("%s, by UDP or forwarded, may go on if the server sends first", ui.Count(c.MayGoOn, "connection")),
			Hints:   []string{"the nftables backend ends those, too"},
		})
	}
}

// warnPartial warns that a user may hold more grants.
func (s *session) warnPartial(partial bool) {
	if partial {
		s.Warn(ui.Remark{Message: "there are more grants than were read; some may be left", Hints: []string{"\"postern revoke --all\" takes all of them"}})
	}
}

// mostLeft is how many addresses with connections a person is told of.
const mostLeft = 10

// sayGoOn says which connections go on that a user may have.
func (s *session) sayGoOn(left []leftOpen) {
	for i, l := range left {
		if i == mostLeft {
			s.Say("and so do those from %d more", len(left)-i)
			break
		}
		s.Say("goes on, as it may be somebody else's: %s from %s through door %s", ui.Count(l.Connections, "connection"), l.Address, l.Door)
	}
	if len(left) > 0 {
		s.Hint(fmt.Sprintf("to end those from there: \"postern revoke %s %s --cut\"", left[0].Door, left[0].Address))
	}
}

var errAllOrUser = errors.New("--all goes with no --user")

func unknownUser(name string, names []string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("the loaded policy has no user %q", name)}
	if near := document.Nearest(name, names); near != "" {
		f.Hints = []string{"did you mean " + near + "?"}
	}
	return f
}
