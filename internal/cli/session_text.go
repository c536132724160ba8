package cli

import (
	"fmt"
	"strings"

	"postern/internal/cli/ui"
	"postern/internal/firewall/backends"
)

func flagBackend(all []string) string {
	return fmt.Sprintf("the `BACKEND` that runs the policy: %s (default the one that has rules loaded, or %s)",
		strings.Join(all, " or "), all[0])
}

func unknownBackend(name string, all []string) error {
	return fmt.Errorf("unknown backend %q: there are %s", name, ui.List(all))
}

func sayUnreadable(file string, err error) string {
	return fmt.Sprintf("cannot read the policy %q: %v", file, err)
}

const hintNoPolicy = "write a policy there, or name another with -f FILE; README.md has a first one"

const hintReadPolicy = "run it as root, or let this user read the file"

func notInspected(err error) ui.Remark {
	return ui.Remark{Message: fmt.Sprintf("another backend may have rules loaded as well: %v", err)}
}

// twoBackends warns of what an up that was killed may leave behind.
func twoBackends(all []backends.Answer) ui.Remark {
	var names []string
	for _, r := range all {
		names = append(names, r.Name())
	}
	return ui.Remark{
		Message: fmt.Sprintf("the rules of several backends are loaded: %s; this is about the first", ui.List(names)),
		Hints:   []string{"\"postern up\" takes out all but those of its --backend"},
	}
}
