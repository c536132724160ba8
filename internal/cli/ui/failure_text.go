package ui

import (
	"fmt"

	"postern/internal/client/knocker"
	"postern/internal/document"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/policy"
)

// Errors and their remedies.
const (
	sayNoVerb      = "no verb given"
	SayInterrupted = "interrupted"
	hintBusy       = "try again; if that does not help, find out which program keeps changing the firewall"
	hintLocked     = "try again when it has ended; if it hangs, kill it: its rules stay whole"
	hintLeftover   = "run the same command again; until then the services that they hide stay hidden"
	hintBug        = "no rules were left half done; please report it, with the policy if you can"
)

func sayBug(value any, place string) string {
	return fmt.Sprintf("this is a bug in postern: %v (in %s)", value, place)
}

func sayInvalid(e *policy.InvalidError) string {
	n := len(e.Diagnostics) + e.More
	file := e.Diagnostics[0].File
	if e.More > 0 {
		return fmt.Sprintf("%s is not a valid %s: %d mistakes, the first %d of them above", document.QuotedPath(file), e.Kind, n, len(e.Diagnostics))
	}
	return fmt.Sprintf("%s is not a valid %s: %s", document.QuotedPath(file), e.Kind, Count(n, "mistake"))
}

func sayBeyond(e *firewall.InexpressibleError) string {
	return fmt.Sprintf("the %s backend cannot do %s that the policy asks for", e.Backend, Count(len(e.Diagnostics), "thing"))
}

func sayUnavailable(e *lab.UnavailableError) string {
	return "this needs network namespaces, which are not available here: " + e.Reason
}

func hintPrivilege(capability string) string {
	return "run it as root, for example with sudo, or give it " + capability
}

func seeHelp(command string) string { return fmt.Sprintf("see %q", command+" --help") }

// anyFamily returns what to do if a host has no address of a family.
func anyFamily(e *knocker.FamilyError) []string {
	digit := map[knocker.Family]string{knocker.IPv4: "4", knocker.IPv6: "6"}[e.Family]
	if digit == "" {
		return nil
	}
	return []string{fmt.Sprintf("leave out -%s, or \"family: %s\" in the hosts file, to use any address", digit, digit)}
}
