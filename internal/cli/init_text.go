package cli

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/draft"
	"postern/internal/paragraph"
	"postern/internal/policy"
)

const (
	shortInit = "write a first policy for this host"
	longInit  = `Looks at this host and writes a policy with one door, which hides the SSH server
behind knocks that are drawn at random. It asks what to hide, whether to block all
other ports, and what needs no knock; Enter takes what it suggests. The file has a
comment on each key, and only its owner can read it.

The knocks are ports that nothing uses here: no program listens on them, the kernel
picks none of them for clients, and /etc/services names none. Where another firewall
blocks what it does not list, the policy sets a mark by which that firewall can
accept what the door admits.

It changes nothing else: "postern up" loads the policy. At the end it says what
"postern check" says, and what to do next.`
	exampleInit = `  postern init
  postern init --yes
  postern init --yes --service tcp/22,udp/51820 --posture closed --allow 443
  postern init -f - | less`
	flagInitService = "the `PORTS` to hide, as in tcp/22 or udp/1194, instead of the SSH server's"
	flagInitPosture = "the `POSTURE`: guard, which leaves other ports as they are, or closed"
	flagInitAllow   = "the `PORTS` that need no knock, as in tcp/80,tcp/443; or all that programs listen on, or none"
	flagInitKnocks  = "draw `N` knocks"
	flagInitYes     = "do not ask: take what the flags do not say from this host"
	flagInitDryRun  = "print the policy, and write nothing"
	flagInitForce   = "replace the policy that is there"
)

const (
	askServices = "hide which ports?"
	askPosture  = "guard or closed?"
	askAllow    = "which of them need no knock: all, none, or which ports?"

	allowAll  = "all"
	allowNone = "none"
)

const (
	sayPostures      = "guard leaves other ports as they are; closed blocks all that the policy does not allow"
	sayNobodyToAsk   = "there is no terminal to ask on: repeat with --yes, or --dry-run to see the policy"
	sayNoService     = "no SSH server listens here: name the ports to hide, as in --service tcp/22"
	sayBadKnocks     = "--knocks must be from %d to %d"
	sayBadPosture    = "posture cannot be %q: write guard or closed"
	sayHiddenAllowed = "%s is what the door hides: it cannot need no knock"
	hintWritePolicy  = "run it as root, or write another file with -f"
)

func (s *session) sayServices(suggested []policy.Port) {
	if len(suggested) == 0 {
		s.Say("no SSH server listens here: which service is to be hidden?")
		return
	}
	s.Say("an SSH server listens on %s", ui.List(portNames(suggested)))
}

func (s *session) sayListeners(others []draft.Listener) {
	var names []string
	for _, l := range others {
		name := l.Port.String()
		if l.Program != "" {
			name += " (" + l.Program + ")"
		}
		names = append(names, name)
	}
	s.Say("programs also listen on %s", ui.List(names))
}

func (s *session) sayUnclear(ports []policy.Port) {
	s.Say("in use as well, by a service or for a moment by a client: %s; \"all\" leaves that out", ui.List(portNames(ports)))
}

func policyExists(file string) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("there is a policy already: %s", document.QuotedPath(file)),
		Hints:   []string{"replace it with --force, or see what would be written with --dry-run"},
	}
}

func sayUnwritable(file string, err error) string {
	return fmt.Sprintf("cannot write the policy %s: %v", document.QuotedPath(file), err)
}

// sayDrafted says what has been written, and what comes next.
func (s *session) sayDrafted(d *draft.Draft, at netip.Addr, risky bool) {
	s.Say("wrote %s: door %s hides %s behind %s", document.QuotedPath(s.file), d.Door, ui.List(portNames(d.Services)), ui.Count(len(d.Sequence), "knock"))
	flag, yes := "", ""
	if s.file != defaultFile {
		flag = " -f " + document.QuotedPath(s.file)
	}
	if risky {
		yes = " --yes"
	}
	hidden := ui.List(portNames(d.Services))
	steps := [][]string{{"postern check" + flag, "find mistakes, after each change"}}
	if d.Beside != "" {
		steps = append(steps, []string{"postern doctor" + flag, "what the other firewall needs"})
	}
	steps = append(steps,
		[]string{"postern share " + d.Door + " --host " + reachableAt(at) + flag, "do this before up: a link"},
		[]string{"postern add NAME LINK", "on the client: save the link"})
	up := "postern up" + flag + yes
	if at.IsValid() {
		steps = append(steps, []string{up, "hide " + hidden + " for a minute"}, []string{"postern confirm", "keep it so: log in anew first"})
	} else {
		steps = append(steps, []string{up, "hide " + hidden})
	}
	steps = append(steps, []string{"postern install", "load the policy at each boot"})
	s.Say("next, with a second session open to fall back on:\n%s", strings.Join(explained(steps), "\n"))
	if d.Beside != "" {
		s.Say("another firewall is there (%s): if it accepts %s itself, it should no longer do so once the door works", d.Beside, hidden)
	}
}

// explained returns commands as lines with a comment on each: beside it or, where not
// all of them fit on a screen so, above it.
func explained(steps [][]string) []string {
	var beside [][]string
	var above []string
	for _, step := range steps {
		beside = append(beside, []string{"  " + step[0], "# " + step[1]})
		above = append(above, "  # "+step[1], "  "+step[0])
	}
	lines := paragraph.Columns(beside)
	for _, line := range lines {
		if utf8.RuneCountInString(line) > ui.Screen+1 {
			return above
		}
	}
	return lines
}
