package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/migrate"
)

const (
	shortImport = "make a policy of iptables rules that knock, or of a knockd.conf"
	longImport  = `Reads what another port knocker is set up with, and prints a policy that means
the same. FILE is what iptables-save lists, or a script of iptables commands, if
their knocks are remembered by "-m recent"; or a knockd.conf; - is standard input.
Chains and lists may have any names: the doors are read off what the rules do.

What the policy does not hold, or holds otherwise, is listed on standard error,
line by line. The rest of the other firewall (what goes out, what is
forwarded, translation of addresses) stays where it is.

It reads FILE and nothing else, and changes nothing on this host: the old rules,
or knockd, go on working, and go on refusing what a door of postern lets in. Read
the policy, write it to a file, and go on with "postern check". Then, with a
second session open: "postern up"; stop knockd, or take the old rules out; and
knock your way in from elsewhere.

Set the old rules' policy back ("iptables -P INPUT ACCEPT"), then take out
the jump to their chains ("iptables -D INPUT -j ...") and these chains ("iptables
-F NAME", "iptables -X NAME"), and nothing else. To flush INPUT or a whole table
would take postern's own rules out as well, if they are there by --backend iptables.`
	exampleImport = `  iptables-save | postern import - > policy.yaml
  postern import /etc/knockd.conf > policy.yaml && postern check -f policy.yaml`
)

const (
	sayNoImport     = "which file?"
	hintNothingLeft = "\"postern init\" writes a first policy"
)

func importTakesNoFlag() error {
	return fmt.Errorf("%w: write FILE without it", wrongPlace("--file", "import"))
}

func sayNotRead(name string, err error) string {
	return fmt.Sprintf("cannot read %q: %v", name, err)
}

// sayLeft lists what is not in a policy that was made.
func (s *session) sayLeft(name string, left []migrate.Remark) {
	if s.JSON {
		return
	}
	for _, l := range left {
		fmt.Fprintf(s.Err, "%s: %s: %s\n", ui.Colour(s.ErrTTY, ui.Bold, fmt.Sprintf("%s:%d", name, l.Line)), l.Text, l.Why)
	}
}

func (s *session) sayImported(kind migrate.Kind, left int) {
	if left == 0 {
		s.Say("everything was converted")
	} else {
		s.Say("%s above, on what the policy does not hold, or holds otherwise", ui.Count(left, "remark"))
	}
	before := "the old rules are still there"
	if kind == migrate.Knockd {
		before = "knockd, if it runs, goes on opening by its own rules"
	}
	s.Hint(before + ": \"postern import --help\" says what to do next")
}
