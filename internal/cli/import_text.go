package cli

import (
	"fmt"

	"postern/internal/migrate"
)

const (
	sayNoImport     = "which file?"
	hintNothingLeft = "write the policy by hand; README.md has a first one"
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
