// Package hosts reads and edits the client's hosts file. It also reads and
// writes the links with which a server hands an entry to a client.
//
//	version: 1
//	hosts:
//	  home:
//	    address: home.example    # a name, or an IP address
//	    port: 22                 # of the service: tcp unless written udp/51820
//	    knock: [20914, udp/7061, 41230]
//	    close: [41230, 20914, udp/7061] # closes the door again
//	    step_timeout: 3s         # the door's: the longest time between two knocks
//	    gap: 50ms                # the least time between two knocks
//	    timeout: 15s             # how long to try before giving up
//	    family: 4                # only by IPv4, or 6: only by IPv6
//	    user: ann                # to log in as, over ssh
//	  work:
//	    address: work.example
//	    key: cG9zdGVybiBpcyBhIHNt... # of this device, in place of a knock
//	    token: 40123             # the port that its tokens go to
//
// A key that is written "keyring/NAME" is in the system's key store instead.
//
// Only address and knock are required, or address, key and token. Knocks and
// keys are secrets: only the owner can read the file, and links should be kept
// as secret. Anyone who has them can open the door, so the service behind it
// must still authenticate its users.
//
// The file is checked as strictly as a server's policy, and its errors are
// reported in the same way. Adding a host changes nothing else in the text:
// comments and order stay as they are.
package hosts

import (
	"time"

	"postern/internal/document"
	"postern/internal/key"
	"postern/internal/policy"
)

// A Host is a service behind a door, and what a client needs to open it.
type Host struct {
	Name        string
	Address     string          // a name, or an IP address
	Service     policy.Port     // TCP or UDP
	Knock       []policy.Port   // at least one, unless there is a key
	Close       []policy.Port   // the knocks that close the door again; empty: none are known
	Key         *key.Credential // opens the door by a token; nil: knocks do
	Stored      bool            // the key is in the system's key store; then Key is a zero one until it is read
	Entry       string          // of the key store; empty: of the host's name
	Token       uint16          // the port that tokens go to, of UDP, and of TCP; 0 without a key
	StepTimeout time.Duration   // the longest time between two knocks
	Gap         time.Duration   // the least time between two knocks; 0: the client decides
	Timeout     time.Duration   // for a whole opening, with name lookup and waiting for other openings
	Family      Family
	User        string // to log in as; empty: the client decides

	Pos document.Position // of the name in the hosts file; zero if not read from one
}

// Closable reports whether it is known how to close the door. A key does it.
func (h *Host) Closable() bool { return h.Key != nil || len(h.Close) > 0 }

// The defaults. The step timeout is the door's, so its default is
// policy.DefaultStepTimeout.
const (
	DefaultPort    = 22 // TCP
	DefaultTimeout = 15 * time.Second
	MaxTimeout     = time.Hour
)

// New returns a host with a name and the defaults.
func New(name string) Host {
	return Host{
		Name:        name,
		Service:     policy.Port{Protocol: policy.TCP, Number: DefaultPort},
		StepTimeout: policy.DefaultStepTimeout,
		Timeout:     DefaultTimeout,
	}
}

// A Family restricts the addresses at which a host is tried.
type Family int

const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

// A File is a parsed hosts file.
type File struct {
	Path  string // of the file, if Own has read it
	Hosts []Host // in the order of the file; no name twice
	// Exposed is set if other users of this machine can read the file, and so
	// the knocks and keys.
	Exposed bool

	text   string          // without a byte order mark
	marked bool            // a byte order mark stood before the text
	list   *document.Entry // the key "hosts" with its mapping; nil if it is missing
}

// Find returns the host of that name, or nil.
func (f *File) Find(name string) *Host {
	for i := range f.Hosts {
		if f.Hosts[i].Name == name {
			return &f.Hosts[i]
		}
	}
	return nil
}

// Nearest returns the host name that a mistyped one most likely stands for, or
// "".
func (f *File) Nearest(name string) string {
	names := make([]string, len(f.Hosts))
	for i := range f.Hosts {
		names[i] = f.Hosts[i].Name
	}
	return document.Nearest(name, names)
}
