package cli

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/cli/ui"
)

const (
	shortShow = "print the policy as rules, as a client's script or as ports to forward"
	longShow  = `Prints the policy in another form. It needs no privilege, and prints the same on
every host.

  nft                the rules that "postern up" loads, for the program nft
  iptables-save      rules for iptables-restore, on a host without others;
  ip6tables-save     of a policy that does what the well-known port knocking
                     how-to does, they are the how-to's own rules
  iptables-script    the same as commands
  ip6tables-script
  client-sh          a client's script, for a POSIX shell or for PowerShell: it
  client-ps1         knocks, then runs ssh. It contains the knocks, so keep it
                     secret
  ports              the ports that a home router must forward`
	exampleShow = `  postern show -f policy.yaml | less
  postern show --comments=false > postern.nft
  postern show --format iptables-save > rules.v4
  postern show --format client-sh --door ssh > knock.sh`
	flagComments = "do not explain the rules in comments"
	flagDoor     = "the `DOOR` that a client script opens; needed where the policy has several"
)

func flagFormat(names []string) string { return "the `FORMAT`: " + strings.Join(names, ", ") }

func unknownFormat(format string, forms []form) error {
	return fmt.Errorf("unknown format %q; the formats are %s", format, strings.Join(namesOf(forms), ", "))
}

func namesOf(forms []form) []string {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return names
}

// notMade explains that this system cannot print a format.
func notMade(format string, forms []form) *ui.Failure {
	made := slices.DeleteFunc(slices.Clone(forms), func(f form) bool { return !f.made() })
	return &ui.Failure{
		Code: ui.CodeUnsupported, Message: fmt.Sprintf("rules for %s can be printed on 64-bit Linux only", format),
		Hints: []string{"these formats work here: " + strings.Join(namesOf(made), ", ")},
	}
}

// whichDoor asks for one of several doors.
func whichDoor(name string, all []string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("the policy has no door %q", name), Hints: []string{"its doors: " + ui.List(all)}}
	if name == "" {
		f.Message, f.Hints = "the policy has several doors", []string{"name one with --door: " + strings.Join(all, ", ")}
	}
	return f
}
