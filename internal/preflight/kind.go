package preflight

import "postern/internal/automaton"

// A Kind is a short name for one thing that may go wrong. Programs read it, so it
// stays when the words of its findings change. docs/findings.md lists all.
type Kind string

// Of a policy alone, whatever the host.
const (
	ServiceAllowed = Kind(automaton.ServiceAllowed)
	ShortSequence  = Kind(automaton.ShortSequence)
	KnockAllowed   = Kind(automaton.KnockAllowed)
	KnockExempt    = Kind(automaton.KnockExempt)
	KnockIsService = Kind(automaton.KnockIsService)
	KnockRepeated  = Kind(automaton.KnockRepeated)
	KnocksInOrder  = Kind(automaton.KnocksInOrder)
)

// Of a policy alone, too, and found here.
const (
	SequenceKnown  Kind = "sequence-known"  // everyone can read it in an example
	ProgressLogged Kind = "progress-logged" // the log has ports of knocks
)

// Of what this host is.
const (
	BareInterface    Kind = "bare-interface"    // the policy leaves one out that it was meant for
	CallerBlocked    Kind = "caller-blocked"    // you could not log in again
	ForwardingOff    Kind = "forwarding-off"    // a forwarded door cannot work
	InterfaceIsPort  Kind = "interface-is-port" // packets arrive under another name
	InterfaceMissing Kind = "interface-missing" // the policy names one that is not there
	KnockPortOpen    Kind = "knock-port-open"   // a program listens on a knock port
	KeyPortOpen      Kind = "key-port-open"     // a program listens on the port of keys
	ServiceUnlisted  Kind = "service-unlisted"  // a guard leaves it open, and it resets knocks
	IPsecCutOff      Kind = "ipsec-cut-off"     // closed blocks what this host receives
	PolicyReadable   Kind = "policy-readable"   // by others
	PolicyWritable   Kind = "policy-writable"
	ProtocolCutOff   Kind = "protocol-cut-off"
	TCPCutOff        Kind = "tcp-cut-off"
	TunnelCutOff     Kind = "tunnel-cut-off"
	UDPCutOff        Kind = "udp-cut-off"     // programs receive what closed blocks
	SecretMissing    Kind = "secret-missing"  // of this host: it can neither be read nor made
	SecretReadable   Kind = "secret-readable" // by others
	SecretReplaced   Kind = "secret-replaced" // it was damaged
	NotChecked       Kind = "not-checked"     // part of the host could not be read
)

// Of the users, and their keys.
const (
	DeviceWithoutKey Kind = "device-without-key" // the policy lists it, and it can open nothing
	KeyWithoutDevice Kind = "key-without-device" // the policy does not list it
	KeysLost         Kind = "keys-lost"          // what runs knows keys that the file lacks
	KeysMissing      Kind = "keys-missing"       // there is no keys file
	KeysReadable     Kind = "keys-readable"      // by others
	KeysUnreadable   Kind = "keys-unreadable"    // by anyone: the file is damaged
	KeysUnsupported  Kind = "keys-unsupported"   // the kernel cannot verify them
	KeysByTags       Kind = "keys-by-tags"       // it can only as long as somebody loads the next ones
	UserExpired      Kind = "user-expired"
)

// Of the backend that runs the policy.
const (
	BackendUnusable    Kind = "backend-unusable"     // it cannot load anything here
	BackendLimits      Kind = "backend-limits"       // a setting of this host weakens it
	AnswersTimed       Kind = "answers-timed"        // their time tells which knock is right
	DecoysFew          Kind = "decoys-few"           // few ports take the time of a first knock
	SecondKnockFirst   Kind = "second-knock-first"   // another sequence begins with it, which times tell
	StepTimeoutLong    Kind = "step-timeout-long"    // few forged knocks fill its table
	OtherBackendUnread Kind = "other-backend-unread" // it may have rules loaded
	BackendUnnamed     Kind = "backend-unnamed"      // the policy does not name it, or names another
)

// Of the rules of other programs.
const (
	AcceptedForSome  Kind = "accepted-for-some"  // they drop what a door lets in, from most
	AnswersDiffer    Kind = "answers-differ"     // a scan can spot the hidden ports
	DivertedByOthers Kind = "diverted-by-others" // a knock leads elsewhere
	DroppedByOthers  Kind = "dropped-by-others"  // they drop what a door lets in
	MaybeDropped     Kind = "maybe-dropped"      // they drop by default, and were not read
	OpenWhenAbsent   Kind = "open-when-absent"   // they accept a hidden port from everyone
	OpenedByOthers   Kind = "opened-by-others"   // they take a hidden port past Postern's rules
	PublishedCutOff  Kind = "published-cut-off"  // closed blocks it
	PublishedPort    Kind = "published-port"     // a container's
	RewrittenEarly   Kind = "rewritten-early"    // what they send on is dropped early, over the budget
	Untracked        Kind = "untracked"          // a door needs connection tracking
)
