// Package policy parses and formats Postern's policy file.
//
// A policy says what a host shows to the network and what it hides: which
// services need no knock (allow), which are hidden behind a door, and which
// knocks open each door. Parse returns a Policy in which every value is checked
// and every default filled in, or diagnostics that name the place, show the
// line and say what to write. Code that gets a Policy can rely on it.
//
// The package is pure: it opens no file and does not query the host.
package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"postern/internal/document"
)

// A Policy is a complete, valid policy with all defaults filled in.
type Policy struct {
	Posture    Posture
	Interfaces []string // empty: every interface but loopback
	Cover      Cover
	EarlyDrop  bool // see DropsEarly
	Allow      []Allow
	Keys       Keys   // the zero value if no door is opened by a key
	Users      []User // in the order of the file; each opens a door
	Doors      []Door // in the order of the file; at least one
	Admitted   Admitted
	Source     Source
	Log        Log
	Backend    Backend // the zero value: up chooses

	file *document.Source // the text, for later diagnostics
}

// A Posture says what happens to traffic that the policy does not name.
type Posture string

const (
	// Closed drops everything that is not allowed, or answers it as Cover says.
	Closed Posture = "closed"
	// Guard hides only the doors' services and leaves the rest of the host
	// alone.
	Guard Posture = "guard"
)

// A Protocol is an IP protocol number (RFC 5237). In a policy, ICMP means both
// ICMP and ICMPv6.
type Protocol uint8

const (
	ICMP   Protocol = 1
	IPIP   Protocol = 4
	TCP    Protocol = 6
	UDP    Protocol = 17
	SIT    Protocol = 41 // IPv6 in IPv4
	GRE    Protocol = 47
	ESP    Protocol = 50
	AH     Protocol = 51
	ICMPv6 Protocol = 58
	EIGRP  Protocol = 88
	OSPF   Protocol = 89
	PIM    Protocol = 103
	VRRP   Protocol = 112
	L2TP   Protocol = 115
	SCTP   Protocol = 132
)

// A Port is the destination of one packet: a TCP or UDP port, or an ICMP echo
// request, for which Number is 0. Its text form is "tcp/22" or "icmp/echo".
type Port struct {
	Protocol Protocol
	Number   uint16
}

// An Allow entry is traffic that needs no knock and never changes anyone's
// progress. A packet must match all its fields.
type Allow struct {
	// Service is the destination; the zero value means any.
	Service Service
	// From is the source; the zero value means any.
	From netip.Prefix
	// Interface is the input interface; empty means any.
	Interface string

	Pos Position
}

// A Service is a protocol and, for TCP and UDP, a range of ports from First to
// Last, both included. ICMP means echo requests only. The zero value means any
// traffic.
type Service struct {
	Protocol    Protocol
	First, Last uint16
}

// A Door hides one or more services behind a knock.
type Door struct {
	Name     string
	Services []Port     // at least one, TCP or UDP
	Address  netip.Addr // the local address; the zero value: any
	Knock    Knock

	OpenFor    time.Duration // how long a grant lasts; a new knock renews it
	Admit      Admit
	Forfeit    bool           // any input that is not admitted loses the source's grants
	Forward    netip.AddrPort // the host behind this one that has the service; the zero value: this host
	Masquerade bool           // the forwarded connection takes this host's address
	From       []netip.Prefix // only these networks may knock; empty: anyone
	OnClose    OnClose

	Pos        Position
	OpenForPos Position // the zero value if it is the default
	OnClosePos Position // the same
}

// HasFamilyOf reports whether the door can be reached over addr's IP family: a
// door with an Address or a Forward has the family of that.
func (d *Door) HasFamilyOf(addr netip.Addr) bool {
	is4 := addr.Unmap().Is4()
	if d.Address.IsValid() && d.Address.Is4() != is4 {
		return false
	}
	return !d.Forward.IsValid() || d.Forward.Addr().Is4() == is4
}

// A Knock is what opens a door: a sequence, the keys of users, or either.
type Knock struct {
	Sequence    []Port        // empty if only keys open the door
	Users       []string      // whose keys open the door: names of Policy.Users; empty if none do
	Close       []Port        // the sequence that closes the door again; empty if none does
	StepTimeout time.Duration // the longest time between two knocks
	Retransmits Retransmits

	SequencePos    []Position // of each knock
	ClosePos       []Position // of each knock of Close
	UsersPos       Position   // the zero value if no keys open the door
	StepTimeoutPos Position   // the zero value if it is the default
}

// Retransmits says what a repeated knock does.
type Retransmits string

const (
	// RetransmitsIgnore: a port that the source has already knocked, or the
	// door's own service, does not change its progress.
	RetransmitsIgnore Retransmits = "ignore"
	// RetransmitsReset: it resets the progress, like any other wrong port.
	RetransmitsReset Retransmits = "reset"
)

// Admit says how many new connections one grant admits.
type Admit string

const (
	AdmitOne Admit = "one" // one new connection to each service of the door
	AdmitAny Admit = "any" // any number while the grant lasts
)

// OnClose says what becomes of a sender's connections when it closes a door.
type OnClose string

const (
	OnCloseKeep OnClose = "keep" // they go on
	OnCloseCut  OnClose = "cut"  // they end
)

// Admitted says what a packet carries that a door admits, for the rules of other
// firewalls. The zero value is nothing.
type Admitted struct {
	Mark Mark
}

// A Mark is bits that are set in the packet's mark and in its connection's; the
// other bits stay as they are. 0 sets none.
type Mark uint32

// String returns the mark as a policy has it, and as nft and iptables take it.
func (m Mark) String() string { return fmt.Sprintf("%#x", uint32(m)) }

// Source says how much of an address identifies a source: a prefix length in
// bits for each family.
type Source struct {
	IPv4, IPv6 int
}

// Mask returns the source that addr belongs to.
func (s Source) Mask(addr netip.Addr) netip.Addr { return s.Prefix(addr).Addr() }

// Prefix returns all addresses that are the same source as addr. The address
// and the lengths must be valid.
func (s Source) Prefix(addr netip.Addr) netip.Prefix {
	bits := s.IPv6
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		bits = s.IPv4
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// Log says where the lines about knocks go.
type Log struct {
	Target      LogTarget
	Group       uint16   // the NFLOG group; only with LogNFLOG
	Progress    bool     // a line for each packet of a source with progress, too; not with LogNone
	ProgressPos Position // the zero value if it is the default
}

// A LogTarget is where log lines go.
type LogTarget string

const (
	LogKernel LogTarget = "kernel" // the kernel log
	LogNFLOG  LogTarget = "nflog"  // an NFLOG group, for ulogd and its like
	LogNone   LogTarget = "none"
)

// A Backend is the name of what runs the policy in a kernel. The rules of one policy
// decide alike with every backend.
type Backend string

const (
	BackendNftables Backend = "nftables"
	BackendIptables Backend = "iptables"
)

// Errors are reported as for any file.
type (
	Position     = document.Position
	Diagnostic   = document.Diagnostic
	InvalidError = document.InvalidError
)

// Diagnose returns a diagnostic for a place in the file that the policy was
// parsed from. For other policies it has no source line.
func (p *Policy) Diagnose(at Position, message, hint string) Diagnostic {
	return p.file.Diagnose(at, message, hint)
}

// AcceptsFrom reports whether addr may knock at the door.
func (d *Door) AcceptsFrom(addr netip.Addr) bool { return accepts(d.From, addr) }

// accepts reports whether addr is of one of the networks; without any, all are.
func accepts(networks []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return len(networks) == 0 || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}
