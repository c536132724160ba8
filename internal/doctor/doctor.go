// Package doctor looks further than preflight: at this host as a scan from outside
// would see it, and at what may make the rules fail later.
//
// # A copy of this host
//
// The scan must not touch the host's own network, and a host cannot be outside of
// itself. So the host is built again out of network namespaces: interfaces of the
// same names and addresses, the rules of other programs as their own tools print
// them, programs that listen at the same ports, and the policy, by its backend. At the
// other end of each interface is a sender of raw packets.
//
// What the copy does not have is said: rules that could not be loaded, and what
// only real neighbours do.
package doctor

import (
	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/preflight"
)

// The kinds of findings that only the doctor has. docs/doctor.md lists them.
const (
	HiddenPortAnswers   preflight.Kind = "hidden-port-answers"  // a scan can spot it
	DoorStaysShut       preflight.Kind = "door-stays-shut"      // after its knocks, or a token
	ScanIncomplete      preflight.Kind = "scan-incomplete"      // part of the host was not copied, or none
	ConntrackFull       preflight.Kind = "conntrack-full"       // connections are refused soon
	ClockUnsynchronized preflight.Kind = "clock-unsynchronized" // log lines have the wrong time
	NotAtBoot           preflight.Kind = "not-at-boot"          // the rules do not survive a reboot
	HooksUnread         preflight.Kind = "hooks-unread"         // only root can list them
	OtherRulesLoaded    preflight.Kind = "other-rules-loaded"   // the report is not about what runs
)

// A Patient is what is looked at, on this host and in the network namespace of the
// calling thread.
type Patient struct {
	Machine *automaton.Machine
	Backend firewall.Backend
	File    string // where the policy is
	Scan    bool   // whether a copy is scanned
}

// An Entry is one thing that was looked at.
type Entry struct {
	preflight.Topic
	Seen  string   // in a few words
	Lines []string // what belongs to it, a line each
}

// Severity returns that of an entry's worst finding; well is true if it has none.
func (e *Entry) Severity() (worst preflight.Severity, well bool) {
	for _, f := range e.Findings {
		worst = max(worst, f.Severity)
	}
	return worst, len(e.Findings) == 0 && !e.Unseen
}

// Of returns preflight's topics as entries.
func Of(topics []preflight.Topic) []Entry {
	var all []Entry
	for _, t := range topics {
		e := Entry{Topic: t}
		switch {
		case len(t.Findings) > 0:
		case t.Unseen:
			e.Seen = "not looked at: see access"
		default:
			e.Seen = t.Well
		}
		all = append(all, e)
	}
	return all
}
