// Package host asks the machine that it runs on for facts that matter to a policy:
// which ports programs listen on, whether it forwards packets, where the caller
// is logged in from. It changes nothing and needs no privilege.
package host

import (
	"net/netip"

	"postern/internal/policy"
)

// A Setting is one of the kernel's, as sysctl(8) names it.
type Setting struct {
	Name  string
	Value string // what it must be
}

// A Tunnel is a link whose packets travel in others, of an IP protocol without ports.
type Tunnel struct {
	Name          string
	Protocol      policy.Protocol
	Local, Remote netip.Addr // the zero value: any
	Interface     string     // on which its packets travel; "" for any
}

// A Receiver is a socket that takes packets from any address: a server's, or a
// tunnel's (WireGuard's are among the UDP sockets that the kernel lists).
type Receiver struct {
	Local     netip.AddrPort // the unspecified address: any of this host's
	Interface string         // the only one that it takes packets from; "" for all
}

// An Other is somebody who may do something to a file; the zero value is nobody.
type Other struct {
	Who  string
	Path string // the file, or a directory above it
}

// A Link is an interface that is up.
type Link struct {
	Name         string
	Master       string // the bridge, bond or VRF that it is a port of
	Parent       string // the interface below it: of a VLAN or macvlan, say
	DefaultRoute bool
	Global       bool // it has an address that others may reach beyond the link
}
