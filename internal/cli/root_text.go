package cli

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"postern/internal/cli/ui"
)

const (
	shortRoot = "hide network services behind a knock"
	longRoot  = `Postern hides network services. A hidden service looks like a port with nothing
behind it, until a client knocks: a few connection attempts to the right closed
ports, in the right order. The kernel does all of it; no daemon stays behind.

Knocking hides a service. It is no substitute for the service's own
authentication: anyone who watches the network can repeat a knock.`
	sayNoVersion = "development build"

	flagFile    = "the policy `FILE`; - is standard input"
	flagJSON    = "print JSON, for programs"
	flagHelp    = "show this help"
	flagVersion = "print the version"
)

func unknownVerb(verb string, similar []string) error {
	if len(similar) > 0 {
		return fmt.Errorf("unknown verb %q: did you mean %q?", verb, similar[0])
	}
	return fmt.Errorf("unknown verb %q", verb)
}

// wrongFlag is about a flag's value. The standard library's errors about numbers
// name its own functions, so only their cause is kept.
func wrongFlag(flag, value string, err error) error {
	if number, ok := errors.AsType[*strconv.NumError](err); ok {
		err = number.Err
	}
	return fmt.Errorf("--%s %q: %w", flag, value, err)
}

func surplus(arg string) error { return fmt.Errorf("unexpected argument %q", arg) }

func wrongPlace(flag, verb string) error { return fmt.Errorf("%s does not take %s", verb, flag) }

// unsupportedHere explains that a verb takes a Linux kernel.
func unsupportedHere(verb string) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeUnsupported,
		Message: fmt.Sprintf("%q needs 64-bit Linux, whose kernel does the work; this is %s", verb, thisSystem()),
		Hints: []string{
			"run it on the host whose services it is to hide",
			"these verbs work here: check, show, import and share; add, hosts, knock, connect, ssh and forward",
		},
	}
}

// thisSystem is what its users call it.
func thisSystem() string {
	switch runtime.GOOS {
	case "linux":
		return "a 32-bit one"
	case "darwin":
		return "macOS"
	case "freebsd":
		return "FreeBSD"
	case "windows":
		return "Windows"
	}
	return runtime.GOOS
}
