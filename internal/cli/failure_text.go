package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern/internal/client/knocker"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/policy"
)

// Errors and their remedies.
const (
	sayNoVerb      = "no verb given"
	sayInterrupted = "interrupted"
	hintPrivilege  = "run it as root, for example with sudo, or give it CAP_NET_ADMIN"
	hintBusy       = "try again; if it stays so, see which other program keeps changing the firewall"
	hintNoPolicy   = "write a policy there, or name another with -f FILE; README.md has a first one"
	hintReadPolicy = "run it as root, or let this user read the file"
	hintBug        = "no rules were left half done; please report it, with the policy if you can"
)

func sayBug(value any, place string) string {
	return fmt.Sprintf("this is a bug in postern: %v (in %s)", value, place)
}

func sayInvalid(e *policy.InvalidError) string {
	n := len(e.Diagnostics) + e.More
	file := e.Diagnostics[0].File
	if e.More > 0 {
		return fmt.Sprintf("%q is no valid %s: %d mistakes, the first %d of them above", file, e.Kind, n, len(e.Diagnostics))
	}
	return fmt.Sprintf("%q is no valid %s: %s", file, e.Kind, count(n, "mistake"))
}

func sayBeyond(e *firewall.InexpressibleError) string {
	return fmt.Sprintf("the %s backend cannot do %s that the policy asks for", e.Backend, count(len(e.Diagnostics), "thing"))
}

func sayUnreadable(file string, err error) string {
	return fmt.Sprintf("cannot read the policy %q: %v", file, err)
}

func sayUnavailable(e *lab.UnavailableError) string {
	return "this needs network namespaces, and there are none here: " + e.Reason
}

func seeHelp(command string) string { return fmt.Sprintf("see %q", command+" --help") }

func unknownVerb(verb string, similar []string) error {
	if len(similar) > 0 {
		return fmt.Errorf("unknown verb %q: did you mean %q?", verb, similar[0])
	}
	return fmt.Errorf("unknown verb %q", verb)
}

func unknownBackend(name string, all []string) error {
	return fmt.Errorf("unknown backend %q: there are %s", name, list(all))
}

func flagFormat() string { return "the `FORMAT`: " + formNames() }

func unknownFormat(format string) error {
	return fmt.Errorf("unknown format %q: there are %s", format, formNames())
}

func formNames() string { return strings.Join(namesOf(forms), ", ") }

func namesOf(forms []form) []string {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return names
}

// notMade says that a form cannot be made on this system.
func notMade(format string) *failure {
	made := slices.DeleteFunc(slices.Clone(forms), func(f form) bool { return !f.made() })
	return &failure{
		Code: codeUnsupported, Message: fmt.Sprintf("rules for %s are made on 64-bit Linux only", format),
		Hints: []string{"--format makes other forms here: " + strings.Join(namesOf(made), ", ")},
	}
}

// whichDoor asks for one of several doors.
func whichDoor(name string, all []string) *failure {
	f := &failure{Code: codeUsage, Message: fmt.Sprintf("there is no door %q", name), Hints: []string{"the policy has " + list(all)}}
	if name == "" {
		f.Message, f.Hints = "the policy has several doors", []string{"name one with --door: " + strings.Join(all, ", ")}
	}
	return f
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

// anyFamily is what to do where a host has no address of the family asked for.
func anyFamily(e *knocker.FamilyError) []string {
	digit := map[knocker.Family]string{knocker.IPv4: "4", knocker.IPv6: "6"}[e.Family]
	if digit == "" {
		return nil
	}
	return []string{fmt.Sprintf("leave out -%s, or \"family: %s\" in the hosts file, to come by any address", digit, digit)}
}
