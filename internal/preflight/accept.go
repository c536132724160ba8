package preflight

import (
	"fmt"
	"strings"

	"postern/internal/preflight/otherrules"
)

// addMark comes first where the policy sets no mark.
var addMark = fmt.Sprintf("let doors mark what they admit: add %q to the policy, at the top level", policyLine)

// howToAccept says how another rule set accepts what a door admits and nothing else:
// by its mark. Nobody is told to accept the port itself. No rule of another firewall
// can ask whether Postern's are there, so it would be open to everyone whenever they
// are not.
func (f *facts) howToAccept(o otherrules.Obstacle) []string {
	a, missing := acceptanceOf(f.machine)
	var hints []string
	if missing {
		hints = append(hints, addMark)
	}
	hints = append(hints, a.accept(o)...)
	return append(hints, fmt.Sprintf("nothing carries the mark while postern's rules are absent: nobody reaches %s then", portList(o)))
}

// accept says how a rule set accepts what is marked, in the words of the program that
// made it.
func (a acceptance) accept(o otherrules.Obstacle) []string {
	family, _, _ := strings.Cut(o.Table, " ")
	is6, forwarded := family == "ip6", o.To.IsValid()
	switch {
	case !o.Marked:
		return []string{"it judges packets before they are marked: hook that chain at input, with a priority above 0"}
	case o.Kind == otherrules.DropsUnread:
		return []string{fmt.Sprintf("check that its rules accept what is marked, as by \"%s\"", a.iptablesCommand(family, o.Chain))}
	case o.Manager == "ufw":
		file, rule := a.ufwRule(path{is6, forwarded})
		return []string{fmt.Sprintf("add %q to %s, above its last line, COMMIT, and run \"ufw reload\"", rule, file)}
	case o.Manager == "firewalld" && !forwarded:
		var all []string
		for _, command := range a.firewalldCommands(o.Ports) {
			all = append(all, fmt.Sprintf("%q", command))
		}
		return all
	case o.Manager == "docker":
		return []string{fmt.Sprintf("%q", a.iptablesCommand(program(is6), "DOCKER-USER"))}
	case o.Table == "ip filter", o.Table == "ip6 filter":
		return []string{
			fmt.Sprintf("%q, and keep it where your rules are kept", a.iptablesCommand(program(is6), o.Chain)),
			"then \"postern up\": with the iptables backend its rules must come before that one",
		}
	}
	return []string{fmt.Sprintf("\"nft insert rule %s %s %s\", and the same in the file that you load", o.Table, o.Chain, a.nftRule())}
}
