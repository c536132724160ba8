package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/policy"
)

// An opened is what a command of knockd's opens.
type opened struct {
	services []policy.Port
	forward  netip.AddrPort
	to       netip.Addr     // only this address of the host
	from     []netip.Prefix // to these and no others; to whoever knocked if it is empty
	timeout  time.Duration
	notes    []string
}

// key tells whether two commands are about the same.
func (o *opened) key() string { return fmt.Sprint(o.what(), o.from) }

// what is the key without whom it is for, which differs between IPv4 and IPv6.
func (o *opened) what() string { return fmt.Sprint(o.services, o.forward) }

// opened reads a section's command: what it opens, or why it opens nothing that
// a door can.
func (s *section) opened() (*opened, string) {
	return opens(s.start().value)
}

// opens reads a command line, which may have several commands.
func opens(line string) (*opened, string) {
	o := &opened{}
	why := ""
	if commands(line) == nil {
		return nil, "its command is not understood"
	}
	for _, args := range commands(line) {
		a, closing, problem := readCommand(args)
		switch {
		case problem != "":
			why = problem
			o.notes = append(o.notes, problem)
		case closing: // makes room for what it then opens anew
		case !o.join(a):
			return nil, "its commands open different things to different addresses: write the doors by hand"
		default:
			o.notes = append(o.notes, a.notes...)
			o.timeout = max(o.timeout, a.timeout)
		}
	}
	if len(o.services) == 0 {
		if why == "" {
			why = "its command opens nothing"
		}
		return nil, why
	}
	return o, ""
}

// join adds what another command opens, and tells whether one door can do both.
func (o *opened) join(a *opened) bool {
	switch first := len(o.services) == 0; {
	case first:
		o.to, o.from, o.forward = a.to, a.from, a.forward
	case a.to != o.to, a.forward.IsValid() && o.forward.IsValid() && a.forward != o.forward:
		return false
	case slices.Equal(a.services, o.services) && len(a.from) > 0 && len(o.from) > 0:
		o.from = unique(slices.Concat(o.from, a.from))
	case !slices.Equal(a.from, o.from):
		return false
	case a.forward.IsValid():
		o.forward = a.forward
	}
	o.services = unique(slices.Concat(o.services, a.services))
	return true
}

// something is the key of what is closed, but not by its name.
const something = "something"

// closes gives the key of what a command line closes; empty: nothing.
func closes(line string) string {
	o := &opened{}
	found := false
	for _, args := range commands(line) {
		a, closing, problem := readCommand(args)
		if problem != "" || !closing {
			continue
		}
		found = true
		if len(a.services) > 0 && !o.join(a) {
			return something
		}
	}
	switch {
	case !found:
		return ""
	case len(o.services) == 0:
		return something
	}
	return o.key()
}

// undoes tells whether a command line closes what was opened, for all one can tell.
func (o *opened) undoes(line string) bool {
	key := closes(line)
	return key == o.key() || key == something
}

// commands takes a command line apart.
func commands(line string) (all [][]string) {
	for range 20 {
		args, rest, closed := words(line)
		if !closed {
			return nil
		}
		if program, rest := command(args); (program == "sh" || program == "bash") && len(rest) >= 2 && rest[0] == "-c" {
			all = append(all, commands(rest[1])...)
		} else if len(args) > 0 {
			all = append(all, args)
		}
		if line = rest; line == "" {
			break
		}
	}
	return all
}

// readCommand reads one command: what it opens, or closes, or what is the
// problem with it.
func readCommand(args []string) (o *opened, closing bool, problem string) {
	program, args := command(args)
	switch {
	case isCommand(program):
		return iptablesCommand(args, strings.HasPrefix(program, "ip6"))
	case program == "nft":
		return nftCommand(args)
	case program == "ufw":
		return ufwCommand(args)
	case program == "firewall-cmd":
		return firewalldCommand(args)
	case program == "ipset":
		if len(args) > 0 && (args[0] == "del" || args[0] == "-D") {
			return &opened{}, true, ""
		}
		return nil, false, "it puts the knocker into a set, and the rule that says what the set may do is not in this file"
	case program == "knock_add" || program == "knock_helper_ipt.sh":
		return helperCommand(args)
	case program == "logger" || program == "echo":
		return nil, false, "it writes a note; the policy logs knocks by itself"
	}
	return nil, false, fmt.Sprintf("%q opens no service that can be told, and postern runs no commands", short(program))
}

// fill makes services of ports.
func (o *opened) fill(protocol int, services []policy.Service, forward netip.AddrPort, closing bool) (*opened, bool, string) {
	p := policy.Protocol(protocol)
	if len(services) == 0 || p != policy.TCP && p != policy.UDP {
		return nil, closing, "it opens every port, and a door names its services: write the door by hand"
	}
	for _, s := range services {
		if s.First == 0 || int(s.Last)-int(s.First) >= maxExpanded {
			return nil, closing, "it opens a wide range of ports, and a door names its services: write the door by hand"
		}
		for n := int(s.First); n <= int(s.Last); n++ {
			o.services = append(o.services, policy.Port{Protocol: p, Number: uint16(n)})
		}
	}
	if forward.IsValid() {
		if forward.Port() == 1 { // no port was written: it stays the same
			forward = netip.AddrPortFrom(forward.Addr(), o.services[0].Number)
		}
		o.forward = forward
	}
	return o, closing, ""
}

// Why a rule makes no door, by where it is.
const (
	whyOutward = "it is about what goes out, and a door about what comes in"
	whyTransit = "it opens the way to another host; a door does that with forward"
)

// inChain tells why a rule in a chain of that name makes no door.
func inChain(name string) (problem string) {
	switch strings.ToUpper(name) {
	case "OUTPUT", "POSTROUTING":
		return whyOutward
	case "FORWARD":
		return whyTransit
	}
	return ""
}

// whom reads which source a command lets in, and notes where the policy does not
// let in the same.
func (o *opened) whom(source string) (problem string) {
	const everyone = "the rule lets everyone in; the policy only who knocked"
	host, bits, _ := strings.Cut(source, "/")
	if host == "%IP%" {
		if bits != "" && bits != "32" && bits != "128" {
			o.notes = append(o.notes, fmt.Sprintf("the rule lets in all neighbours of who knocked (%s); the policy only who knocked", short(source)))
		}
		return ""
	}
	if source == "" || source == "any" {
		o.notes = append(o.notes, everyone)
		return ""
	}
	p, ok := parseNetwork(source)
	switch {
	case !ok:
		return fmt.Sprintf("whom it lets in (%s) is neither the knocker nor one address or network", short(source))
	case p.Bits() == 0:
		o.notes = append(o.notes, everyone)
	default:
		o.from = append(o.from, p)
		o.notes = append(o.notes, fmt.Sprintf("the rule lets in %s, whoever knocked; by the policy only who comes from there can knock", network(p)))
	}
	return ""
}
