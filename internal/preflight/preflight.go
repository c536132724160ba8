// Package preflight answers what may go wrong with a policy on this host.
//
// Each kind of finding has a file of its own, with the condition, the words and
// the remedy. What the host has to say is read once, into facts; from there on
// everything is a pure function. To add a finding, write a function of facts in a
// new file and list it in Look.
//
// A finding is never the reason that something else is not looked at, and what
// cannot be looked at is a finding itself.
package preflight

import (
	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
)

// A Severity says how bad a finding is.
type Severity int

const (
	Note    Severity = iota // as it should be, and good to know
	Warning                 // probably a mistake
	Error                   // a policy that should not be loaded here, unless someone insists
)

func (s Severity) String() string {
	return [...]string{Note: "note", Warning: "warning", Error: "error"}[s]
}

// A Finding is one thing that may go wrong.
type Finding struct {
	Kind     Kind
	Severity Severity
	Message  string
	Hints    []string // what to do about it
	Where    Place
}

// A Place is what a finding is about; the zero value is the host.
type Place struct {
	Line      *policy.Diagnostic // a line of the policy
	Table     string             // another rule set, with its family: "ip filter"
	Chain     string
	Interface string
}

// Policy returns the findings that need no host.
func Policy(m *automaton.Machine) []Finding {
	var found []Finding
	for _, l := range m.Lint() {
		about := aboutLine(Kind(l.Kind), l.Diagnostic)
		if l.Kind == automaton.KnockAllowed { // nobody could ever open the door
			about.Severity = Error
		}
		found = append(found, about)
	}
	return append(found, knownSequence(m.Policy)...)
}

func aboutLine(kind Kind, d policy.Diagnostic) Finding {
	f := Finding{Kind: kind, Severity: Warning, Message: d.Message, Where: Place{Line: &d}}
	if d.Hint != "" {
		f.Hints = []string{d.Hint}
	}
	return f
}

// Look returns all findings about a machine of the backend, on this host and in
// the network namespace of the calling thread. The survey must be of the same
// host. The order depends on nothing but the findings.
func Look(m *automaton.Machine, b firewall.Backend, survey backends.Survey) []Finding {
	found := Policy(m)
	if !backends.Load {
		return append(found, hostLeftOut())
	}
	f := read(m, b, survey)
	for _, look := range []func(*facts) []Finding{
		(*facts).backendRefusal,
		(*facts).otherBackend,
		(*facts).unnamedBackend,
		(*facts).policyFile,
		(*facts).knockPorts,
		(*facts).absentInterfaces,
		(*facts).bridgePorts,
		(*facts).bareInterfaces,
		(*facts).forwarding,
		(*facts).listeners,
		(*facts).tcpCutOff,
		(*facts).udpCutOff,
		(*facts).tunnelCutOff,
		(*facts).protocolCutOff,
		(*facts).ipsecCutOff,
		(*facts).otherRules,
		(*facts).openWhenAbsent,
		(*facts).publishedPorts,
		(*facts).conspicuous,
		(*facts).backendAdvice,
		(*facts).longStep,
		(*facts).blockedCaller,
		(*facts).notChecked,
	} {
		found = append(found, look(f)...)
	}
	return found
}
