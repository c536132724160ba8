package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"postern/internal/client/knocker"
	"postern/internal/document"
	"postern/internal/hosts"
)

// cause is the system's own part of an error, without the names of the calls that
// led to it. If the system has no part in it, it is the whole error.
func cause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// A LookupError reports that a host's addresses are not known.
type LookupError struct{ Err *knocker.LookupError }

func (e *LookupError) Error() string {
	if e.Err.Unknown() {
		return e.Err.Error()
	}
	what := "no name server answers"
	if errno, ok := errors.AsType[syscall.Errno](e.Err); ok {
		what = errno.Error()
	} else if dns, ok := errors.AsType[*net.DNSError](e.Err); ok && dns.Err == "server misbehaving" {
		// A name server has answered, but not the question. Package net has only
		// words for it.
		what = "the name server does not answer the question"
	}
	return fmt.Sprintf("cannot look up %s: %s", document.Quoted(e.Err.Host), what)
}

func (e *LookupError) Unwrap() error { return e.Err }

func (e *LookupError) Hints() []string {
	switch {
	case e.Err.Unknown() && strings.ContainsAny(e.Err.Host, ":[]/@"):
		return []string{"write the name or the address alone"}
	case e.Err.Unknown():
		return []string{"check the spelling; some names are known on their own network only"}
	}
	return []string{"see whether this machine is on a network; an address in place of the name needs no name server"}
}

// A NoCommonFamilyError reports that the host to knock at and the one to connect to
// are not both on IPv4, nor both on IPv6.
type NoCommonFamilyError struct{ Knock, Connect string }

func (e *NoCommonFamilyError) Error() string {
	return fmt.Sprintf("%q and %q have no addresses of the same family; a door opens for the address that knocks", e.Knock, e.Connect)
}

// A TurnError reports that other openings at an address did not end in time. They
// take turns, or each would spoil the other's knocks.
type TurnError struct {
	Address string
	Timeout bool // the user can give it more
	Err     error
}

func (e *TurnError) Error() string {
	return fmt.Sprintf("other openings at %s did not end in time: this one had no turn", e.Address)
}

func (e *TurnError) Unwrap() error { return e.Err }

func (e *TurnError) Hints() []string {
	remedy := "try again soon"
	if e.Timeout {
		remedy = hintMoreTime
	}
	return []string{"openings at one address take turns, so that they do not spoil each other's knocks: " + remedy}
}

// A ZoneError reports that a link-local address has no interface of this machine.
type ZoneError struct {
	Address    netip.Addr
	Interfaces []string // those of this machine, if the address names another
}

func (e *ZoneError) Error() string {
	if e.Address.Zone() == "" {
		return fmt.Sprintf("address %q is valid only on one network", e.Address)
	}
	return fmt.Sprintf("%q: this machine has no interface %q", e.Address, e.Address.Zone())
}

func (e *ZoneError) Hints() []string {
	switch {
	case e.Address.Zone() == "":
		return []string{fmt.Sprintf("name the interface after it, as in %s%%eth0", e.Address)}
	case len(e.Interfaces) == 0:
		return nil
	}
	return []string{"its interfaces: " + strings.Join(e.Interfaces, ", ")}
}

// A NotTCPError reports that a host's service has no connections.
type NotTCPError struct{ Host *hosts.Host }

func (e *NotTCPError) Error() string {
	return fmt.Sprintf("%s is %s; only TCP services can be connected to", e.Host.Name, e.Host.Service)
}

func (e *NotTCPError) Hints() []string {
	return []string{fmt.Sprintf("use \"postern knock %s\", and then its own client", e.Host.Name)}
}

// A BrokenError reports that a connection ended in an error.
type BrokenError struct{ Err error }

func (e *BrokenError) Error() string { return "the connection broke off: " + cause(e.Err) }
func (e *BrokenError) Unwrap() error { return e.Err }

// An OutputError reports that the program that reads from a connection cannot be
// written to.
type OutputError struct{ Err error }

func (e *OutputError) Error() string { return "cannot write to standard output: " + cause(e.Err) }
func (e *OutputError) Unwrap() error { return e.Err }
