package firewall

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/document"
	"postern/internal/host"
	"postern/internal/key"
	"postern/internal/policy"
)

// Backends differ in more than how they run a machine. What not every backend has
// is one of these interfaces; nobody asks for a backend by its name.

// A Renderer can write its rules as text.
type Renderer interface {
	Formats() []Format
}

// A Format is a text form of a backend's rules.
type Format struct {
	Name   string                                 // what the command line calls it
	Render func(*automaton.Machine, Style) string // nil: this system cannot make it
}

// A Style is how much a text says besides the rules.
type Style int

const (
	Plain     Style = iota // rules only
	Commented              // what every part is for
)

// A ChainOwner keeps its rules in chains that nft lists.
type ChainOwner interface {
	// Owns reports whether a chain is one of the backend's. The table's name
	// begins with its family: "inet postern".
	Owns(table, chain string) bool
}

// A SourceReader leaves what sources have earned out of Inspect: where they are
// many, the kernel needs minutes to hand it out.
type SourceReader interface {
	// ReadSources adds progress and grants to a status, for some seconds at most.
	ReadSources(*Status) error
}

// ReadSources completes what a backend's Inspect has returned by what sources
// have earned.
func ReadSources(b Backend, status *Status) error {
	if r, ok := b.(SourceReader); ok && status.Loaded {
		return r.ReadSources(status)
	}
	return nil
}

// A Delegate has another program load its rules.
type Delegate interface {
	// Program returns the name and version of that program.
	Program() (string, error)
}

// A Diverted backend does not see a new connection before every NAT rule of others.
type Diverted interface {
	// Diverts reports whether NAT rules in a table, named as for a ChainOwner,
	// can take connections to hidden ports away before the machine's rules see them.
	Diverts(m *automaton.Machine, table string) bool
}

// A Marker marks what a door admits, where the policy says so.
type Marker interface {
	// Marks reports whether packets carry the mark when a chain of others sees them.
	Marks(Hook) bool
}

// A Hook is where a chain of others is called.
type Hook struct {
	Table    string // with its family, as for a ChainOwner
	Name     string // "prerouting", "input" or "forward"
	Priority int
}

// An Adviser knows what on this host may weaken its rules, other rule sets aside.
type Adviser interface {
	// Advise fails if the host lacks what the backend needs.
	Advise() ([]Advice, error)
}

// Advice is one thing that may weaken a backend's rules.
type Advice struct {
	Message string
	Hints   []string // what to do about it
}

// A Keepable backend can keep its rules as they are.
type Keepable interface {
	// Keep returns the backend for a process that does so, over a connection to
	// the kernel of its own. The caller must call Close.
	Keep() (Keeper, error)
}

// A Keeper applies rules and hears of what others change.
type Keeper interface {
	Backend

	// Notified reports whether the kernel gives notice of changes by others. Where
	// it does not, Changed reports whether there may have been one since it was
	// called last. It must be cheap: it is called many times a second.
	Notified() bool
	Changed() bool

	// Concerns reports whether a notice is about the backend's rules, and not of
	// a change that the Keeper itself has made. It must be cheap: it is asked
	// about every change of any rule of the host.
	Concerns(n Notice) bool

	// Restore loads the machine's rules, which were loaded before, after a notice
	// that concerns them, and reports whether others had changed them. It is as
	// quick as it can be.
	Restore(m *automaton.Machine) (changed bool, err error)

	// Hold keeps others from changing the rules, until LetGo or until this
	// process ends, and reports whether that is possible. The rules stay in any
	// case. It may be called when they are held already, or not loaded.
	Hold() (bool, error)
	LetGo() error

	Close() error
}

// A Notice is one change that the kernel has made to rules of nf_tables.
type Notice struct {
	Sender uint32 // the netlink port that asked for it
	Table  string // with its family, as for a ChainOwner
	Chain  string // of the chain or rule; else ""
	Set    string // whose elements changed; else ""
	Gone   bool   // the table itself was deleted
}

// A Bounded backend remembers so many senders. (Others forget the one that knocked
// longest ago.)
type Bounded interface {
	// Places returns how many senders it remembers at once, in each family: each takes
	// a place by any packet that counts, right or wrong. While all places are taken
	// nobody else's first knock counts.
	Places() int
}

// A KeyVerifier verifies tokens, and may drop packets before the rules see them.
type KeyVerifier interface {
	// Forget makes the tokens of a device count no more, at once. What they have granted
	// stays. The device may be unknown.
	Forget(key.Device) error

	// VerifyEverywhere has tokens verified, and packets dropped early, on interfaces that
	// came after Apply, and tokens by the kernel's TAI if that has been set since. It must be
	// cheap if there is nothing to do: a watchdog calls it every second.
	VerifyEverywhere(m *automaton.Machine) error

	// Verifying reports whether tokens are verified, which may be so without any rules.
	// Then they open nothing.
	Verifying() (bool, error)

	// StopVerifying takes away what verifies tokens, which may be there without any rules,
	// and reports whether it was.
	StopVerifying() (bool, error)
}

// TokenTerms returns what a policy says of tokens that rules need not say, as what verifies
// them asks for it. It is part of the digest of a rule set.
func TokenTerms(p *policy.Policy) string {
	if !p.HasKeys() {
		return ""
	}
	var b strings.Builder
	fmt.Fprintln(&b, p.Keys.Port, p.Keys.Bound)
	for i := range p.Users {
		fmt.Fprintln(&b, p.Users[i].Name, p.Users[i].Until.UnixNano())
	}
	return b.String()
}

// A TagVerifier can verify tokens by tags, where the kernel cannot compute them: by what
// tokens begin with, which is loaded in advance.
type TagVerifier interface {
	// TagsLast returns how long tags last that are loaded for a machine, or the reason why
	// its tokens cannot be verified without a program, with what that adds to it.
	TagsLast(m *automaton.Machine, reason *UnsupportedError) (time.Duration, error)
}

// A Steady backend does the same work for a right packet as for a wrong one.
type Steady interface {
	// Steady reports that the time of one answer does not tell them apart.
	Steady() bool
}

// A Granter gives and takes grants by hand. The machine must be the one that the kernel
// runs for the backend.
type Granter interface {
	// Grant gives the source of an address what a door's last knock gives it, for so long:
	// all of it or nothing. The address must be one that the door is for. It is a
	// *FixedTimeError that the backend cannot give a grant for so long.
	Grant(m *automaton.Machine, d *automaton.Door, to netip.Addr, lasts time.Duration) error

	// Revoke takes grants away.
	Revoke(m *automaton.Machine, r Revocation) (Revoked, error)

	// Open returns the clients' ends of the connections with a door's services.
	Open(m *automaton.Machine, d *automaton.Door) ([]netip.AddrPort, error)
}

// A Revocation says which grants are to go.
type Revocation struct {
	Door  *automaton.Door // nil: every door
	From  netip.Addr      // whose source loses them; the zero value: everyone
	Keep  bool            // the grants stay
	Cut   bool            // the connections to the doors' services end, too
	Spare []host.Way      // what the caller is logged in by, which does not
}

// Concerns reports whether an address is one of those that lose grants.
func (r *Revocation) Concerns(m *automaton.Machine, a netip.Addr) bool {
	return !r.From.IsValid() || m.Policy.Source.Prefix(r.From).Contains(a)
}

// Grants returns the grants that are to go.
func (r *Revocation) Grants(m *automaton.Machine) []automaton.GrantID {
	var all []automaton.GrantID
	for i := range m.Grants {
		if g := &m.Grants[i]; r.Door == nil || &m.Doors[g.Door] == r.Door {
			all = append(all, g.ID)
		}
	}
	return all
}

// Services returns what these grants open.
func (r *Revocation) Services(m *automaton.Machine) []*automaton.Service {
	var all []*automaton.Service
	for i := range m.Services {
		s := &m.Services[i]
		for _, g := range s.Grants {
			if r.Door == nil || &m.Doors[m.Grants[g].Door] == r.Door {
				all = append(all, s)
				break
			}
		}
	}
	return all
}

// Revoked is what a Revocation has found.
type Revoked struct {
	Grants      int // of sources, as far as they could be counted
	Connections int // that have ended
	Spared      int // connections that have not
	MayGoOn     int // of those that have ended: they go on if their server is the next to send

	// Of RevokeOpened: what goes on through the doors, and whether there may be more to
	// revoke than was read.
	Left    []Left
	Partial bool
}

// A Left is an address with connections through a door that have not ended.
type Left struct {
	Door        string
	Address     netip.Addr
	Connections int
}

// A FixedTimeError says that a backend gives grants for the door's open_for alone.
type FixedTimeError struct {
	Backend string
	Door    *automaton.Door
}

func (e *FixedTimeError) Error() string {
	return fmt.Sprintf("the %s backend grants for the time that the policy says, %s at door %s, and for no other",
		e.Backend, document.FormatDuration(e.Door.OpenFor), e.Door.Name)
}

// Hints returns what to do about it.
func (e *FixedTimeError) Hints() []string {
	return []string{"leave out --for, or use the nftables backend"}
}
