// Package hosts keeps what a client knows of the hosts it knocks at: the hosts
// file, and the links by which a server hands an entry of it to a client.
//
//	version: 1
//	hosts:
//	  home:
//	    address: home.example    # a name, or an IP address
//	    port: 22                 # of the service: tcp unless written udp/51820
//	    knock: [20914, udp/7061, 41230]
//	    step_timeout: 3s         # the door's: the longest time between two knocks
//	    gap: 50ms                # the least time between two knocks
//	    timeout: 15s             # how long to try before giving up
//	    family: 4                # only by IPv4, or 6: only by IPv6
//	    user: ann                # to log in as, over ssh
//
// Only address and knock are needed. The knocks are a secret, so the file is its
// owner's alone, and so should a link be. Whoever has them can knock; the
// service behind the door must still ask who it is.
//
// What is read is checked as strictly as a server's policy, and spoken of in the
// same way. Adding a host changes the text of the file and nothing else in it:
// comments and order stay as they are.
package hosts

import (
	"time"

	"postern/internal/document"
	"postern/internal/policy"
)

// A Host is a service behind a door, and how to come in.
type Host struct {
	Name        string
	Address     string        // a name, or an IP address
	Service     policy.Port   // TCP or UDP
	Knock       []policy.Port // at least one
	StepTimeout time.Duration // the door forgets a knock after this
	Gap         time.Duration // the least time between two knocks; 0 leaves it to the client
	Timeout     time.Duration // of an opening, the look-up of the name and the wait for others included
	Family      Family
	User        string // to log in as; empty is the client's choice

	Pos document.Position // of the name in the hosts file; zero if not read from one
}

// What is meant where nothing is written. The step timeout is the door's, and so
// its default is policy.DefaultStepTimeout.
const (
	DefaultPort    = 22 // TCP
	DefaultTimeout = 15 * time.Second
)

// New gives a host of which nothing is known but its name and the defaults.
func New(name string) Host {
	return Host{
		Name:        name,
		Service:     policy.Port{Protocol: policy.TCP, Number: DefaultPort},
		StepTimeout: policy.DefaultStepTimeout,
		Timeout:     DefaultTimeout,
	}
}

// A Family says by which of a host's addresses it is gone to.
type Family int

const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

// A File is what a hosts file holds.
type File struct {
	Hosts []Host // in the order of the file; no name twice
	// Exposed: others on this machine can read the file, and so the knocks.
	Exposed bool

	text   string          // without a byte order mark
	marked bool            // a byte order mark stood before the text
	list   *document.Entry // the key "hosts" with its mapping; nil if there is none
}

// Find gives the host of that name, or nil.
func (f *File) Find(name string) *Host {
	for i := range f.Hosts {
		if f.Hosts[i].Name == name {
			return &f.Hosts[i]
		}
	}
	return nil
}

// Nearest gives the name that a mistyped one most likely stands for, or "".
func (f *File) Nearest(name string) string {
	names := make([]string, len(f.Hosts))
	for i := range f.Hosts {
		names[i] = f.Hosts[i].Name
	}
	return document.Nearest(name, names)
}
