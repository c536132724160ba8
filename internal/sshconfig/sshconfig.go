// Package sshconfig speaks to OpenSSH's client in its own words: as options of its
// command line, and as blocks of its configuration.
//
// # How ssh comes through a door
//
// ssh does not connect by itself. It runs a ProxyCommand, which knocks, connects, and
// either passes on what is said or hands the connected socket over. For all the rest
// it is told where the host really is: keys of hosts are looked up by HostName and
// Port, so a host is known by the same name with a knock as without.
//
// # Whose word holds
//
// Of each option ssh takes the first value that it comes across: the command line's
// before the files', and in a file the upper one's. So what leads through the door
// stands before what else the user may have written, and everything else stays theirs.
// ProxyJump and ProxyCommand count as one option in this.
//
// # Files
//
// Blocks are kept in a file of their own, which the user's configuration includes in
// its first line: below a Host line, an Include would belong to that host alone.
package sshconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// A Host is a name for ssh to know, and the way there.
type Host struct {
	Name    string // letters, digits, and -, _ or . between them
	Address string // a name or an IP address
	Port    uint16
	User    string // empty is whoever ssh takes
	Command string // the ProxyCommand, with its words quoted as Quote does
	// Mode is how the command gives ssh the connection.
	Mode ProxyMode
}

// A ProxyMode is how ssh comes to a connection that another program has made.
type ProxyMode int

const (
	// Relay: the program stays, and passes on what comes and goes.
	Relay ProxyMode = iota
	// PassFD: the program hands its socket over, and ends.
	PassFD
)

// options gives the options that lead to the host, with their values.
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

// word writes a value so that no comment is seen in it.
func word(text string) string {
	if strings.Contains(text, "#") {
		return `"` + text + `"`
	}
	return text
}

// Block is the host as a configuration file has it.
func (h *Host) Block() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Host %s\n", h.Name)
	for _, o := range h.options() {
		fmt.Fprintf(&b, "\t%s %s\n", o[0], o[1])
	}
	return b.String()
}

// Arguments are the words that lead ssh to the host, to stand before those that the
// user gives it, l. A user that these name is not named again.
func (h *Host) Arguments(l *CommandLine) []string {
	var words []string
	for _, o := range h.options() {
		if o[0] != "User" || !l.names("User") {
			words = append(words, "-o", o[0]+"="+o[1])
		}
	}
	return words
}
