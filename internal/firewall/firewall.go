// Package firewall says what a backend is: a way to run a knock automaton in a
// kernel. Every backend must decide about every packet as the reference in
// package automaton does; the suite in conformance holds them to it.
package firewall

import (
	"errors"
	"net/netip"
	"time"

	"postern/internal/automaton"
	"postern/internal/key"
	"postern/internal/policy"
)

// A Backend runs machines on this host, in the network namespace of the calling
// thread. Its errors are of this package's types where their text is not enough.
type Backend interface {
	// Name is what the command line calls it.
	Name() string

	// Machine compiles a policy for this backend, with the parameters that it
	// has. It fails with an *InexpressibleError if the policy asks for something
	// that the backend cannot do.
	Machine(p *policy.Policy) (*automaton.Machine, error)

	// Digest names the rule set that Apply loads for a machine of this backend:
	// it is the same for the same rules.
	Digest(m *automaton.Machine) string

	// Apply makes the kernel run the machine, in place of the one it may be
	// running. It is all or nothing. Grants and progress stay, as far as the
	// new machine has their services and states.
	Apply(m *automaton.Machine) error

	// Remove takes all that Apply has loaded out of the kernel. It may be
	// called when there is nothing.
	Remove() error

	// Inspect reads what the kernel is running. What sources have earned may be
	// missing: see ReadSources.
	Inspect() (*Status, error)
}

// A Status is what a kernel is running at one moment.
type Status struct {
	Loaded   bool
	Digest   string // names the rule set that was applied; see Backend
	Altered  bool   // others have changed what was applied; it may hide nothing
	Progress []Progress
	Grants   []Grant
	Partial  bool       // the kernel holds more progress or grants than was read
	Keys     []KeyUse   // of the devices whose tokens are verified
	Bare     []string   // interfaces where tokens are not verified, though the policy has keys
	Keyless  bool       // the policy has keys, and no device is known whose key would open a door
	Tags     *Tags      // nil where tokens are not verified by tags
	Early    *EarlyDrop // nil: the policy asks for none, or it cannot be known
	Counters []Counter  // in the order of their names; "blocked" has what was dropped early, too
}

// An EarlyDrop is what is dropped before the rules see it.
type EarlyDrop struct {
	Interfaces     []string // where that is done; if nowhere, the rules do all the work
	UDP            bool     // datagrams are dropped, too; if not, the rules alone do it
	Packets, Bytes uint64   // so far
}

// Tags say until when tokens can be verified: their tags are loaded in advance, where a
// kernel cannot do without.
type Tags struct {
	Until   time.Time
	Last    time.Duration // how long those last that are loaded at once
	Stepped bool          // the clock was set, or the host has slept, since: none is right
}

// Progress is how far a source has come in a knock.
type Progress struct {
	Source netip.Addr
	State  automaton.StateID
	Left   time.Duration // until it expires
}

// A Grant is a service that a source may connect to. Until it expires, there may
// be one left whose door is gone from the machine; it opens nothing.
type Grant struct {
	Source netip.Addr
	ID     automaton.GrantID
	Left   time.Duration // until it expires
	Given  time.Time     // as far as the backend knows
}

// A KeyUse is a door that a device may open, and for whom it did.
type KeyUse struct {
	Device key.Device
	Door   key.Door
	Name   string    // of its user and the device, as the loaded rules have it: "alice/laptop"; "" if they do not
	Code   uint32    // what the backend knows the two by
	Opened []Opening // in any order; ReadSources reads them
}

// An Opening is a source that a key has opened a door for. It may be forgotten when it is
// long over.
type Opening struct {
	Source netip.Addr
	When   time.Time // last
}

// A Counter counts packets since its door, or the rule set, was first applied.
type Counter struct {
	Name    string
	Packets uint64
	Bytes   uint64
}

// An InexpressibleError is what a valid policy asks for that a backend cannot do.
// Each hint names one that can, or what to write instead.
type InexpressibleError struct {
	Backend     string
	Diagnostics []policy.Diagnostic // at least one, in the order of the file
}

func (e *InexpressibleError) Error() string {
	text := "the " + e.Backend + " backend cannot do what the policy asks:"
	for _, d := range e.Diagnostics {
		text += "\n" + d.String()
	}
	return text
}

// An UnreadableError says that rules of a backend are loaded, but not which. It is
// no *UnsupportedError: a backend that this host lacks has nothing loaded.
type UnreadableError struct {
	Backend string
	Err     error
}

func (e *UnreadableError) Error() string {
	text := "rules of the " + e.Backend + " backend are loaded, and cannot be read: " + e.Err.Error()
	var unsupported *UnsupportedError
	if errors.As(e.Err, &unsupported) {
		text += " (" + unsupported.Hint + ")"
	}
	return text
}

// A PermissionError says that the caller may not change the firewall.
type PermissionError struct {
	Err      error
	Programs bool // the rules it may change, but not see the BPF programs in front of them
}

func (e *PermissionError) Error() string {
	if e.Programs {
		return "no permission to look at the BPF programs in front of the rules"
	}
	return "no permission to read or change the firewall"
}

// Capability returns the name of the one that is missing.
func (e *PermissionError) Capability() string {
	if e.Programs {
		return "CAP_SYS_ADMIN"
	}
	return "CAP_NET_ADMIN"
}

func (e *PermissionError) Unwrap() error { return e.Err }

// A HeldError says that another process keeps everyone else from changing the rules.
type HeldError struct{ Rules string } // what it holds

func (e *HeldError) Error() string {
	return "another process holds " + e.Rules + ", and nobody else may change it"
}

// Hints returns who it most likely is.
func (e *HeldError) Hints() []string {
	return []string{"postern watchdog does; if it does not let go by itself, stop it: systemctl stop postern-watchdog"}
}

// An UnsupportedError says that this host lacks what a backend needs.
type UnsupportedError struct {
	What string // what this host, or its kernel, lacks
	Hint string // what to do about it
	Err  error
}

func (e *UnsupportedError) Error() string { return "this host has no " + e.What }
func (e *UnsupportedError) Unwrap() error { return e.Err }

// A BusyError says that others kept changing the firewall, or that the kernel
// had no room, and that nothing has changed.
type BusyError struct{ Err error }

func (e *BusyError) Error() string {
	return "the kernel's firewall is busy, and nothing has changed: " + e.Err.Error()
}
func (e *BusyError) Unwrap() error { return e.Err }
