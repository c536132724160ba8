package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postern/internal/cli/ui"
)

const (
	shortRoot = "hide network services behind a knock"
	longRoot  = `Postern hides network services. A hidden service looks like a port with nothing
behind it, until a client knocks: a few connection attempts to the right closed
ports, in the right order. The kernel does all of it; no daemon stays behind.

Knocking hides a service. It is no substitute for the service's own
authentication: whoever watches the network can repeat a knock.`
	flagFile    = "the policy `FILE`; - is standard input"
	flagJSON    = "answer with JSON, for programs"
	flagHelp    = "say more"
	flagVersion = "print the version"
)

func flagBackend(all []string) string {
	return fmt.Sprintf("the `BACKEND` that runs the policy: %s (default the one that has rules loaded, or %s)",
		strings.Join(all, " or "), all[0])
}

func unknownVerb(verb string, similar []string) error {
	if len(similar) > 0 {
		return fmt.Errorf("unknown verb %q: did you mean %q?", verb, similar[0])
	}
	return fmt.Errorf("unknown verb %q", verb)
}

func unknownBackend(name string, all []string) error {
	return fmt.Errorf("unknown backend %q: there are %s", name, ui.List(all))
}

// wrongFlag is about a flag's value. Of numbers the standard library says more than
// anybody wants to know.
func wrongFlag(flag, value string, err error) error {
	if number, ok := errors.AsType[*strconv.NumError](err); ok {
		err = number.Err
	}
	return fmt.Errorf("--%s %q: %w", flag, value, err)
}

func surplus(arg string) error { return fmt.Errorf("unexpected argument %q", arg) }

func wrongPlace(flag, verb string) error { return fmt.Errorf("%s has no use for %s", verb, flag) }

func sayUnreadable(file string, err error) string {
	return fmt.Sprintf("cannot read the policy %q: %v", file, err)
}

const hintNoPolicy = "write a policy there, or name another with -f FILE; README.md has a first one"

const hintReadPolicy = "run it as root, or let this user read the file"
