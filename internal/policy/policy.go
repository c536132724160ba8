// Package policy reads Postern's one policy file.
//
// A policy says what a host shows to the network and what it hides: which
// services need no knock (allow), which are hidden behind a door, and which
// knocks open each door. Parse turns the YAML document into a Policy in which
// every default is filled in and every value has been checked, or into
// diagnostics that name the place, show the line and say what to write
// instead. Everything after this package can rely on what it reads.
//
// The package is pure: it opens no file and asks the host nothing.
package policy

import (
	"net/netip"
	"slices"
	"time"

	"postern/internal/document"
)

// A Policy is a whole, valid policy: every default is filled in.
type Policy struct {
	Posture    Posture
	Interfaces []string // empty: every interface but loopback
	Cover      Cover
	Allow      []Allow
	Doors      []Door // in the order of the file; at least one
	Source     Source
	Log        Log

	file *document.Source // the text it was read from, to point at a place later
}

// A Posture says what becomes of traffic that the policy does not name.
type Posture string

const (
	// Closed drops (or answers as Cover says) all that is not allowed.
	Closed Posture = "closed"
	// Guard leaves the rest of the host alone and hides only the doors.
	Guard Posture = "guard"
)

// A Protocol is an IP protocol number (RFC 5237). ICMP stands for ICMP and
// ICMPv6 both: a policy has no word for one family alone.
type Protocol uint8

const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	GRE    Protocol = 47
	ESP    Protocol = 50
	AH     Protocol = 51
	ICMPv6 Protocol = 58
	VRRP   Protocol = 112
)

// A Port is what one packet addresses: a TCP or UDP port, or an ICMP echo
// request, for which Number is 0. Its text form is "tcp/22" or "icmp/echo".
type Port struct {
	Protocol Protocol
	Number   uint16
}

// An Allow entry is traffic that needs no knock and never touches anybody's
// progress. Its parts must all hold.
type Allow struct {
	// Service is what may be addressed; the zero value is anything.
	Service Service
	// From is who may; the zero value is anyone.
	From netip.Prefix
	// Interface is where it must come in; empty is any.
	Interface string

	Pos Position
}

// A Service is what an Allow entry opens: a protocol, and for TCP and UDP a
// range of ports (First to Last, both included). ICMP means echo requests
// only. The zero value means anything at all.
type Service struct {
	Protocol    Protocol
	First, Last uint16
}

// A Door hides one or more services behind a knock.
type Door struct {
	Name     string
	Services []Port     // at least one, TCP or UDP
	Address  netip.Addr // only on this local address; the zero value is any
	Knock    Knock

	OpenFor    time.Duration // how long a grant lasts; a new knock renews it
	Admit      Admit
	Forfeit    bool           // any input that is not admitted loses the source's grants
	Forward    netip.AddrPort // the service is on another host; the zero value: on this one
	Masquerade bool           // the forwarded connection takes this host's address
	From       []netip.Prefix // only these networks may knock; empty is anyone

	Pos        Position
	OpenForPos Position // the zero value: it is the default
}

// Serves tells whether the door's services can be reached from a source of
// addr's family: a door with an Address or a Forward has that one's family.
func (d *Door) HasFamilyOf(addr netip.Addr) bool {
	is4 := addr.Unmap().Is4()
	if d.Address.IsValid() && d.Address.Is4() != is4 {
		return false
	}
	return !d.Forward.IsValid() || d.Forward.Addr().Is4() == is4
}

// A Knock is the sequence that opens a door.
type Knock struct {
	Sequence    []Port        // at least one
	StepTimeout time.Duration // the longest time between two knocks
	Retransmits Retransmits

	SequencePos    []Position // of each knock
	StepTimeoutPos Position   // the zero value: it is the default
}

// Retransmits says what a knock that comes again does.
type Retransmits string

const (
	// RetransmitsIgnore leaves the source where it is when a port that it has
	// already knocked, or the door's own service, comes again.
	RetransmitsIgnore Retransmits = "ignore"
	// RetransmitsReset treats it as any other wrong port: back to the start.
	RetransmitsReset Retransmits = "reset"
)

// Admit says how many new connections one grant lets in.
type Admit string

const (
	AdmitOne Admit = "one" // one new connection to each service of the door
	AdmitAny Admit = "any" // any number while the grant lasts
)

// Source says how much of an address is "one source": a prefix length in bits
// for each family.
type Source struct {
	IPv4, IPv6 int
}

// Mask gives the source that addr belongs to.
func (s Source) Mask(addr netip.Addr) netip.Addr { return s.Prefix(addr).Addr() }

// Prefix gives all addresses that are one source with addr. It is for valid
// addresses, and for lengths that Parse has let pass.
func (s Source) Prefix(addr netip.Addr) netip.Prefix {
	bits := s.IPv6
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		bits = s.IPv4
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// Log says where the lines about knocks go.
type Log struct {
	Target LogTarget
	Group  uint16 // the NFLOG group; only with LogNFLOG
}

// A LogTarget is where log lines go.
type LogTarget string

const (
	LogKernel LogTarget = "kernel" // the kernel log, as the how-to's LOG lines
	LogNFLOG  LogTarget = "nflog"  // an NFLOG group, for ulogd and its like
	LogNone   LogTarget = "none"
)

// What is wrong with a policy is said as of any file.
type (
	Position     = document.Position
	Diagnostic   = document.Diagnostic
	InvalidError = document.InvalidError
)

// Diagnose points at a place in the file that the policy was read from. A
// policy that was not read from a file has no line to show.
func (p *Policy) Diagnose(at Position, message, hint string) Diagnostic {
	return p.file.Diagnose(at, message, hint)
}

// AcceptsFrom tells whether addr is one of those that may knock at the door.
func (d *Door) AcceptsFrom(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return len(d.From) == 0 || slices.ContainsFunc(d.From, func(p netip.Prefix) bool { return p.Contains(addr) })
}
