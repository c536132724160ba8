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
	"slices"

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
func Policy(m *automaton.Machine, b firewall.Backend) []Finding {
	var found []Finding
	for _, l := range m.Lint() {
		about := aboutLine(Kind(l.Kind), l.Diagnostic)
		if l.Kind == automaton.KnockAllowed { // nobody could ever open the door
			about.Severity = Error
		}
		found = append(found, about)
	}
	found = append(found, knownSequence(m.Policy)...)
	found = append(found, loggedProgress(m.Policy)...)
	return append(found, timed(m, b)...)
}

func aboutLine(kind Kind, d policy.Diagnostic) Finding {
	f := Finding{Kind: kind, Severity: Warning, Message: d.Message, Where: Place{Line: &d}}
	if d.Hint != "" {
		f.Hints = []string{d.Hint}
	}
	return f
}

// A Topic is one thing that was looked at.
type Topic struct {
	Name     string
	Well     string    // what there is to say without a finding
	Findings []Finding // none: all is well, or
	Unseen   bool      // what it takes could not be read
}

// A topicLook is one thing that is looked at on a host.
type topicLook struct {
	topic, well string
	needs       string // of what must have been read: see facts.missing
	look        func(*facts) []Finding
}

// doorLooks come first: what they find keeps a door from opening, or hiding.
var doorLooks = []topicLook{
	{"backend", "the backend can load the policy", "", (*facts).backendRefusal},
	{"forwarding", "on where a door needs it", "", (*facts).forwarding},
	{"interfaces", "all that the policy names are there", "interfaces", (*facts).absentInterfaces},
	{"ports of bridges", "no interface of the policy is a port of another", "bridges", (*facts).bridgePorts},
	{"other rules and doors", "nobody stands in the way of a door", "other firewall rules", (*facts).otherRules},
	{"users and keys", "each device has a key of its own, or there are none", "the keys file", (*facts).people},
}

// looks come after what the policy alone shows.
var looks = []topicLook{
	{"other backends", "no other backend has rules that cannot be read", "the rules that are loaded", (*facts).otherBackend},
	{"backend in the policy", "a reboot loads by the same backend", "", (*facts).unnamedBackend},
	{"policy file", "others can neither read nor change it", "", (*facts).policyFile},
	{"knock ports", "nothing listens on a knock port", "listening programs", (*facts).knockPorts},
	{"interfaces of allow", "packets arrive by each", "interfaces", (*facts).allowedNowhere},
	{"bare interfaces", "none is left out that the policy is meant for", "links and routes", (*facts).bareInterfaces},
	{"listening programs", "allow lists what clients use", "listening programs", (*facts).listeners},
	{"TCP that closed cuts off", "nothing that the policy does not name", "programs that accept TCP connections", (*facts).tcpCutOff},
	{"UDP that closed cuts off", "nothing that the policy does not name", "programs that receive UDP", (*facts).udpCutOff},
	{"tunnels", "none is cut off", "tunnels", (*facts).tunnelCutOff},
	{"other protocols", "nothing is cut off", "raw sockets", (*facts).protocolCutOff},
	{"IPsec", "not cut off", "IPsec", (*facts).ipsecCutOff},
	{"without postern's rules", "other rules keep the services shut, or are not asked to", "other firewall rules", (*facts).openWhenAbsent},
	{"published ports", "none is in the way, or there are none", "other firewall rules", (*facts).publishedPorts},
	{"rules and early drop", "nobody sends on what it would drop", "other firewall rules", (*facts).rewrittenEarly},
	{"other rules and answers", "nobody answers in another way", "other firewall rules", (*facts).conspicuous},
	{"limits of the backend", "no setting of this host weakens it", "", (*facts).backendAdvice},
	{"forged knocks", "few of them do not shut a door", "", (*facts).longStep},
	{"your way in", "you can log in again", "", (*facts).blockedCaller},
	{"secret of this host", "others cannot read it", "the secret of this host", (*facts).hostSecret},
	{"access", "all could be read", "", (*facts).notChecked},
}

// Look returns all findings about a machine of the backend, on this host and in
// the network namespace of the calling thread. The survey must be of the same
// host. The order depends on nothing but the findings.
func Look(m *automaton.Machine, b firewall.Backend, survey backends.Survey) []Finding {
	var found []Finding
	for _, t := range Topics(m, b, survey) {
		found = append(found, t.Findings...)
	}
	return found
}

// Topics returns the same findings, with what was found to be well.
func Topics(m *automaton.Machine, b firewall.Backend, survey backends.Survey) []Topic {
	ofPolicy := Topic{Name: "policy", Well: "no mistakes", Findings: Policy(m, b)}
	if !backends.Load {
		return []Topic{ofPolicy, {Name: "this host", Findings: []Finding{hostLeftOut()}}}
	}
	f := read(m, b, survey)
	var all []Topic
	add := func(looks []topicLook) {
		for _, l := range looks {
			all = append(all, Topic{l.topic, l.well, l.look(f), slices.Contains(f.unseen, l.needs)})
		}
	}
	add(doorLooks)
	all = append(all, ofPolicy)
	add(looks)
	return all
}
