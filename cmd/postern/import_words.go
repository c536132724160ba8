package main

import (
	"fmt"

	"postern/internal/migrate"
)

const (
	sayNoImport     = "which file?"
	hintNothingLeft = "write the policy by hand; README.md has a first one"

	// longImportRules ends the long help.
	longImportRules = `

Of the old rules take out the jump to their chains ("iptables -D INPUT -j ..."),
then these chains ("iptables -F NAME", "iptables -X NAME"), and nothing else. To
flush INPUT or a whole table would take postern's own rules out as well, if they
are there by --backend iptables.`
)

func importTakesNoFlag() error {
	return fmt.Errorf("%w: write FILE without it", wrongPlace("--file", "import"))
}

func sayNotRead(name string, err error) string {
	return fmt.Sprintf("cannot read %q: %v", name, err)
}

// sayLeft lists what is not in a policy that was made.
func (v *voice) sayLeft(name string, left []migrate.Left) {
	if v.json {
		return
	}
	for _, l := range left {
		fmt.Fprintf(v.err, "%s: %s: %s\n", colour(v.errTTY, bold, fmt.Sprintf("%s:%d", name, l.Line)), l.Text, l.Why)
	}
}

func (v *voice) sayImported(kind migrate.Kind, left int) {
	if left == 0 {
		v.say("the policy holds all of it")
	} else {
		v.say("%s above, on what the policy does not hold, or holds otherwise", count(left, "remark"))
	}
	before := "the old rules are still there"
	if kind == migrate.Knockd {
		before = "knockd, if it runs, goes on opening by its own rules"
	}
	v.hint(before + ": \"postern import --help\" says what to do next")
}
