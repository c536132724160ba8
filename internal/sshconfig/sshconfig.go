// Package sshconfig writes options and configuration blocks for OpenSSH's
// client.
//
// # How ssh connects through a door
//
// ssh does not connect by itself. It runs a ProxyCommand, which knocks,
// connects, and either relays data or passes the connected socket to ssh. The
// other options name the host's real address: ssh looks up host keys by
// HostName and Port, so a host is known by the same name with and without
// knocks.
//
// # Precedence
//
// ssh takes the first value that it finds for each option: the command line
// before the files, and earlier lines in a file before later ones. So the
// options for the door come before what the user may have written, and
// everything else stays the user's. ProxyJump and ProxyCommand count as one
// option.
//
// # Files
//
// Blocks are kept in a file of their own, which the user's configuration
// includes in its first line: below a Host line, an Include would apply to that
// host only.
package sshconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// A Host is a host behind a door, as ssh needs it.
type Host struct {
	Name    string // letters, digits, and -, _ or . between them
	Address string // a name or an IP address
	Port    uint16
	User    string // empty: ssh decides
	Command string // the ProxyCommand, quoted by Quote
	// Mode says how the command hands the connection to ssh.
	Mode ProxyMode
	// ByAddress has ssh knock also if it is called by the address.
	ByAddress bool
}

// A ProxyMode is how ssh uses a connection that another program has made.
type ProxyMode int

const (
	// Relay: the program stays and relays data.
	Relay ProxyMode = iota
	// PassFD: the program passes its socket to ssh and exits.
	PassFD
)

// options returns the ssh options for the host.
func (h *Host) options() [][2]string {
	all := [][2]string{
		{"HostName", strings.ReplaceAll(h.Address, "%", "%%")},
		{"Port", strconv.Itoa(int(h.Port))},
		{"ProxyCommand", h.Command},
		{"ProxyUseFdpass", map[ProxyMode]string{Relay: "no", PassFD: "yes"}[h.Mode]},
	}
	if h.User != "" {
		all = append(all, [2]string{"User", word(h.User)})
	}
	return all
}

// word quotes a value that contains #, which would begin a comment.
func word(text string) string {
	if strings.Contains(text, "#") {
		return `"` + text + `"`
	}
	return text
}

// patterns are the words that ssh is called by for the host.
func (h *Host) patterns() []string {
	if h.ByAddress && h.Address != h.Name {
		return []string{h.Name, h.Address}
	}
	return []string{h.Name}
}

// Block returns the host as a block of a configuration file.
func (h *Host) Block() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Host %s\n", strings.Join(h.patterns(), " "))
	for _, o := range h.options() {
		fmt.Fprintf(&b, "\t%s %s\n", o[0], o[1])
	}
	return b.String()
}

// Arguments returns the options for the host, to go before the user's own
// command line l. If l sets a user, they do not.
func (h *Host) Arguments(l *CommandLine) []string {
	var words []string
	for _, o := range h.options() {
		if o[0] != "User" || !l.names("User") {
			words = append(words, "-o", o[0]+"="+o[1])
		}
	}
	return words
}
