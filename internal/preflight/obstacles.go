package preflight

import (
	"fmt"
	"strings"

	"postern/internal/firewall"
	"postern/internal/paragraph"
	"postern/internal/preflight/otherrules"
)

// otherRules warns of other rule sets that get in the way of the doors. What they
// drop stays dropped, whatever Postern accepts.
func (f *facts) otherRules() []Finding {
	var found []Finding
	for _, o := range f.obstacles {
		diverts := o.Kind == otherrules.Diverts || o.Kind == otherrules.MayDivert
		switch late, ok := f.backend.(firewall.Diverted); {
		case !diverts || !ok:
			found = append(found, f.aboutObstacle(o))
		case late.Diverts(f.machine, o.Table):
			found = append(found, f.aboutEscape(o))
		}
	}
	return found
}

var obstacleKinds = map[otherrules.Kind]Kind{
	otherrules.Drops:       DroppedByOthers,
	otherrules.DropsUnread: MaybeDropped,
	otherrules.AcceptsSome: AcceptedForSome,
	otherrules.Diverts:     DivertedByOthers,
	otherrules.MayDivert:   DivertedByOthers,
	otherrules.Untracks:    Untracked,
}

func (f *facts) aboutObstacle(o otherrules.Obstacle) Finding {
	what, where := portList(o), fmt.Sprintf("table %s, chain %s", o.Table, o.Chain)
	if o.To.IsValid() {
		what += " to " + o.To.String()
	}
	found := Finding{Kind: obstacleKinds[o.Kind], Severity: Warning, Where: Place{Table: o.Table, Chain: o.Chain}}
	switch o.Kind {
	case otherrules.Diverts, otherrules.MayDivert:
		if publishers[o.Manager] {
			found.Kind, found.Severity = PublishedPort, Note
			found.Message = fmt.Sprintf("%s publishes %s (%s): a knock leads to the container", o.Manager, what, where)
			break
		}
		sends := "sends"
		if o.Kind == otherrules.MayDivert {
			sends = "may send"
		}
		found.Message = fmt.Sprintf("%s %s %s elsewhere: that is where a knock will lead", where, sends, what)
		found.Hints = []string{"right for a published container port; otherwise remove that rule"}
	case otherrules.Untracks:
		found.Message = fmt.Sprintf("%s keeps %s from connection tracking: a door for it will not work", where, what)
		found.Hints = []string{"remove that notrack rule"}
	case otherrules.DropsUnread:
		found.Message = fmt.Sprintf("%s drops by default, and may drop %s even after a knock", where, what)
		found.Hints = f.howToAccept(o)
	case otherrules.AcceptsSome:
		found.Message = fmt.Sprintf("%s accepts %s only %s: what a knock lets in from elsewhere is dropped", where, what, whom(o.Senders))
		found.Hints = append([]string{"if that is meant, let only those knock: write the networks in the door's from"}, f.howToAccept(o)...)
	default:
		found.Message = fmt.Sprintf("%s drops %s, even after a knock", where, what)
		found.Hints = f.howToAccept(o)
	}
	return found
}

// mostSenders is how many a finding names.
const mostSenders = 4

// whom lists the senders from whom a rule set accepts a port.
func whom(senders []string) string {
	switch n := len(senders) - mostSenders; {
	case len(senders) == 0:
		return "from some sources or interfaces"
	case n > 0:
		return strings.Join(senders[:mostSenders], ", ") + fmt.Sprintf(", and %d more", n)
	}
	return paragraph.List(senders)
}

// aboutEscape warns of a rule set that takes packets for hidden ports away before
// the backend's rules see them.
func (f *facts) aboutEscape(o otherrules.Obstacle) Finding {
	return Finding{
		Kind:     OpenedByOthers,
		Severity: Warning,
		Message: fmt.Sprintf("table %s, chain %s sends %s elsewhere, where %s rules do not see it: it is not hidden",
			o.Table, o.Chain, portList(o), f.backend.Name()),
		Hints: []string{"use the nftables backend, or remove that rule"},
		Where: Place{Table: o.Table, Chain: o.Chain},
	}
}

func portList(o otherrules.Obstacle) string {
	var ports []string
	for _, p := range o.Ports {
		ports = append(ports, p.String())
	}
	return paragraph.List(ports)
}
