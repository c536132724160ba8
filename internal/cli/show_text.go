package cli

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/cli/ui"
)

const (
	shortShow = "print the policy as rules, as a client's script or as ports to forward"
	longShow  = `Prints the policy in another form. It needs no privilege, and gives the same on
every host.

  nft                the rules that "postern up" loads, for the program nft
  iptables-save      rules for iptables-restore, and for tables with no others:
  ip6tables-save     where the policy has the habits of the well-known port
                     knocking how-to, the how-to's own
  iptables-script    the same as commands
  ip6tables-script
  client-sh          a script for those who are to come in: it knocks, and runs
  client-ps1         ssh. For a POSIX shell, and for PowerShell. It holds the
                     knocks: give it to nobody else
  ports              which ports a home router must forward`
	exampleShow = `  postern show -f policy.yaml | less
  postern show --comments=false > postern.nft
  postern show --format iptables-save > rules.v4
  postern show --format client-sh --door ssh > knock.sh`
	flagComments = "explain every part of the rules"
	flagDoor     = "the `DOOR` that a client script opens; needed where the policy has several"
)

func flagFormat(names []string) string { return "the `FORMAT`: " + strings.Join(names, ", ") }

func unknownFormat(format string, forms []form) error {
	return fmt.Errorf("unknown format %q: there are %s", format, strings.Join(namesOf(forms), ", "))
}

func namesOf(forms []form) []string {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return names
}

// notMade says that a form cannot be made on this system.
func notMade(format string, forms []form) *ui.Failure {
	made := slices.DeleteFunc(slices.Clone(forms), func(f form) bool { return !f.made() })
	return &ui.Failure{
		Code: ui.CodeUnsupported, Message: fmt.Sprintf("rules for %s are made on 64-bit Linux only", format),
		Hints: []string{"--format makes other forms here: " + strings.Join(namesOf(made), ", ")},
	}
}

// whichDoor asks for one of several doors.
func whichDoor(name string, all []string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("there is no door %q", name), Hints: []string{"the policy has " + ui.List(all)}}
	if name == "" {
		f.Message, f.Hints = "the policy has several doors", []string{"name one with --door: " + strings.Join(all, ", ")}
	}
	return f
}
