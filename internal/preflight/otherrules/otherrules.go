// Package otherrules looks at the other rule sets on this host, and finds those
// that get in the way of a policy's doors.
//
// The kernel asks every rule set in turn, and one that drops has the last word:
// a packet that a grant lets in must pass the others as well. So Obstacles sends
// a packet for each hidden service through each of them, on paper: a new
// connection from somewhere, on some interface. (Where only some networks may
// knock, or the policy holds on some interfaces only, it is from there.) A
// condition of a rule is true, false or unknown: all that depends on more than
// the packet is unknown.
//
// A rule with an unknown condition does not end the packet. If it would accept
// and names the port, an owner has thought of this port, and there is nothing to
// warn of; unless it accepts from some senders only, by address or interface.
// Then a knock from elsewhere leads nowhere, which is an obstacle of a weaker
// kind. So there is a warning for a port that an unknown client cannot reach, and
// none for a list of blocked addresses.
//
// If the policy marks what a door admits, the packet carries that mark wherever the
// backend has set it, and so passes a rule set that accepts what is marked.
//
// Refusals sends packets to ports with nothing behind them through the same rules:
// if others refuse those in another way than Postern refuses the hidden ones,
// these can be spotted.
//
// Rules may be of kinds that are not known here. They never match, and never are
// a reason not to go on.
package otherrules

import (
	"net/netip"

	"postern/internal/policy"
)

// A Kind says what an obstacle does.
type Kind int

const (
	// Drops: what a grant lets in is dropped.
	Drops Kind = iota
	// DropsUnread is the same in legacy iptables, whose default is to drop
	// and whose rules, which may make an exception, are not read.
	DropsUnread
	// AcceptsSome: what a grant lets in is dropped, except from some sources or
	// on some interfaces.
	AcceptsSome
	// Diverts: it sends a hidden port elsewhere, so that a knock opens
	// something other than the door says.
	Diverts
	// MayDivert: it does so for some packets.
	MayDivert
	// Untracks: it keeps a hidden port from connection tracking, without
	// which what is let in is not recognized again.
	Untracks
)

// An Obstacle is a rule set that gets in the way of doors.
type Obstacle struct {
	Kind    Kind
	Table   string // with its family: "ip filter"
	Chain   string
	Manager string        // the program whose table it is, if that can be told: "ufw", "firewalld", "docker"
	Ports   []policy.Port // which it is about, as the chain sees them
	Marked  bool          // packets that doors admit carry the policy's mark there, if it sets one
	Senders []string      // of AcceptsSome: from whom, where a rule says so: "from 198.51.100.0/24", "on eth1"
	To      netip.Addr    // of packets forwarded to another host; the zero value: to this one
}

// An Opening is a rule set that accepts hidden ports from everyone.
type Opening struct {
	Table   string // which refuses what it does not list
	Chain   string
	Manager string // as an Obstacle's
	Ports   []policy.Port
}

// A Rewrite is a chain of others that gives packets another destination.
type Rewrite struct{ Table, Chain string } // as an Obstacle's

// A Published port of this host is sent on by a rule that names it: to a container, say.
type Published struct {
	Port    policy.Port
	To      netip.AddrPort // without a port: to the same; the zero value: not known
	Table   string         // as an Obstacle's
	Chain   string
	Manager string
}

// A Refusal is the answer to most ports with nothing behind them, of one protocol
// in one family.
type Refusal struct {
	Table    string // whose chain refuses; "" if it is the kernel's own answer
	Chain    string
	Protocol policy.Protocol
	IPv6     bool
	Answer   policy.Answer
}
