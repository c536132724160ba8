package migrate

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/policy"
)

// An opened is what a command of knockd's opens to whoever knocked.
type opened struct {
	services []policy.Port
	forward  netip.AddrPort
	to       netip.Addr // only this address of the host
	timeout  time.Duration
	notes    []string
}

// key tells whether two commands are about the same.
func (o *opened) key() string { return fmt.Sprint(o.services, o.forward) }

// opened reads a section's command: what it opens, or why it opens nothing that
// a door can.
func (s *section) opened() (*opened, string) {
	return opens(s.start().value)
}

// Stand-ins for the knocker's address, as knockd puts it in for %IP%.
var knockers = map[bool]string{false: "192.0.2.254", true: "2001:db8::fe"}

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
		default:
			for _, p := range a.services {
				if !slices.Contains(o.services, p) {
					o.services = append(o.services, p)
				}
			}
			o.notes = append(o.notes, a.notes...)
			o.timeout = max(o.timeout, a.timeout)
			if a.forward.IsValid() {
				o.forward = a.forward
			}
			if a.to.IsValid() {
				o.to = a.to
			}
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
		for _, p := range a.services {
			if !slices.Contains(o.services, p) {
				o.services = append(o.services, p)
			}
		}
		if a.forward.IsValid() {
			o.forward = a.forward
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

func iptablesCommand(args []string, v6 bool) (*opened, bool, string) {
	const unclear = "what this rule opens cannot be told"
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "%IP%", knockers[v6])
	}
	table, args := tableOf("filter", args)
	if len(args) < 2 {
		return nil, false, unclear
	}
	verb, chain, args := args[0], args[1], args[2:]
	closing := false
	switch verb {
	case "-A", "--append", "-I", "--insert", "-R", "--replace":
	case "-D", "--delete":
		closing = true
	default:
		return nil, false, unclear
	}
	if len(args) > 0 && strings.Trim(args[0], "0123456789") == "" {
		if args = args[1:]; closing {
			return &opened{}, true, ""
		}
	}
	r := parseRule(args, v6)
	forward, isForward := parseEndpoint(r.options["--to-destination"], 1)
	switch {
	case r.target == "DNAT" && table == "nat" && isForward:
	case r.target != "ACCEPT":
		return nil, false, "it adds or takes away a rule that does not accept"
	case table == "filter" && chain == "FORWARD":
		return nil, false, "it opens the way to another host; a door does that with forward"
	}
	o := &opened{}
	protocol := 0
	var services []policy.Service
	for _, t := range r.tests {
		switch {
		case t.not:
			return nil, false, unclear
		case t.kind == onProtocol:
			protocol = t.protocol
		case t.kind == onPort:
			services = t.ports
		case t.kind == onAddress && t.network.IsSingleIP():
			o.to = t.network.Addr()
		case t.kind == onSource, t.kind == onState, t.kind == onFlags, t.kind == onType, t.kind == onAddress && t.network.Bits() == 0:
		case t.kind == onInterface:
			o.notes = append(o.notes, "the rule is for the interface "+short(t.name)+" alone, and the door for all that the policy names")
		case t.kind == onRate:
			o.notes = append(o.notes, "a policy has no limit for what a door lets in")
		default:
			return nil, false, unclear
		}
	}
	if !isForward && !slices.ContainsFunc(r.tests, func(t test) bool { return t.kind == onSource }) && !closing {
		o.notes = append(o.notes, "the rule lets everyone in (it has no -s %IP%); the policy only who knocked")
	}
	return o.fill(protocol, services, forward, closing)
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

// helperCommand reads a call of the script that comes with knockd, which adds or
// deletes a rule: "knock_add -i -c INPUT -p tcp -d 22 -f %IP%".
func helperCommand(args []string) (*opened, bool, string) {
	closing, protocol, port := false, "tcp", ""
	for i, a := range args {
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		switch a {
		case "-x", "--delete":
			closing = true
		case "-p", "--proto":
			protocol = value
		case "-d", "--dstport":
			port = value
		}
	}
	services, ok := parsePorts(port)
	if port == "" || !ok {
		return nil, closing, "which port it opens cannot be told"
	}
	return (&opened{}).fill(protocolNumber(protocol), services, netip.AddrPort{}, closing)
}

var nftRule = regexp.MustCompile(`\b(tcp|udp) dport (\{[^}]*\}|[a-z0-9-]+)`)

// nftCommand reads "nft add rule …" and "nft add element …".
func nftCommand(args []string) (*opened, bool, string) {
	text := strings.Join(args, " ")
	closing := slices.Contains(args, "delete") || slices.Contains(args, "destroy")
	if slices.Contains(args, "element") {
		const set = "it puts the knocker into a set, and the rule that says what the set may do is not in this file"
		if closing {
			return &opened{}, true, ""
		}
		return nil, false, set
	}
	m := nftRule.FindStringSubmatch(text)
	switch {
	case closing: // by a handle, which says nothing
		return &opened{}, true, ""
	case !slices.Contains(args, "rule") || !strings.HasSuffix(text, "accept") && !strings.Contains(text, " accept "):
		return nil, false, "what this command of nft opens cannot be told"
	case m == nil:
		return (&opened{}).fill(0, nil, netip.AddrPort{}, false)
	}
	ports := strings.ReplaceAll(strings.ReplaceAll(strings.Trim(m[2], "{} "), " ", ""), "-", ":")
	services, ok := parsePorts(ports)
	if !ok {
		return nil, false, "what this command of nft opens cannot be told"
	}
	return (&opened{}).fill(protocolNumber(m[1]), services, netip.AddrPort{}, false)
}

// ufwCommand reads "ufw allow from %IP% to any port 22 proto tcp".
func ufwCommand(args []string) (*opened, bool, string) {
	const unclear = "what this command of ufw opens cannot be told"
	closing, protocol, port := false, "", ""
	o := &opened{}
	for i := 0; i < len(args); i++ {
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		switch args[i] {
		case "delete":
			closing = true
		case "insert", "prepend", "comment", "from":
			i++
		case "proto":
			protocol = value
			i++
		case "port":
			port = value
			i++
		case "to":
			if a, err := netip.ParseAddr(value); err == nil {
				o.to = a
			}
			i++
		case "route", "deny", "reject", "app", "out":
			return nil, closing, unclear
		}
	}
	if number, name, found := strings.Cut(port, "/"); found {
		port, protocol = number, name
	}
	services, ok := parsePorts(port)
	if port == "" || !ok {
		return nil, closing, unclear
	}
	if protocol == "" {
		protocol = "tcp"
		if !closing {
			o.notes = append(o.notes, "without proto, ufw opens the port for TCP and UDP; the policy opens it for TCP")
		}
	}
	return o.fill(protocolNumber(protocol), services, netip.AddrPort{}, closing)
}

var (
	richPort     = regexp.MustCompile(`\bport port="?([0-9-]+)"? protocol="?(tcp|udp)"?`)
	richProtocol = regexp.MustCompile(`\bport protocol="?(tcp|udp)"? port="?([0-9-]+)"?`)
	richService  = regexp.MustCompile(`\bservice name="?([a-z0-9-]+)"?`)
)

// firewalldCommand reads a rich rule that accepts.
func firewalldCommand(args []string) (*opened, bool, string) {
	const unclear = "what this command of firewall-cmd opens cannot be told"
	text := strings.Join(args, " ")
	closing := strings.Contains(text, "--remove-rich-rule")
	if !closing && !strings.Contains(text, "--add-rich-rule") || !strings.Contains(text, "accept") {
		return nil, closing, unclear
	}
	o := &opened{}
	for _, a := range args {
		if value, is := strings.CutPrefix(a, "--timeout="); is {
			if n, err := strconv.Atoi(strings.TrimSuffix(value, "s")); err == nil && n > 0 && n <= 86400 {
				o.timeout = time.Duration(n) * time.Second
			} else if d, err := time.ParseDuration(value); err == nil && d > 0 {
				o.timeout = min(d, 24*time.Hour)
			}
		}
	}
	if m := richService.FindStringSubmatch(text); m != nil {
		p, known := wellKnown[m[1]]
		if !known {
			return nil, closing, unclear
		}
		o.services = []policy.Port{p}
		return o, closing, ""
	}
	port, protocol := "", ""
	if m := richPort.FindStringSubmatch(text); m != nil {
		port, protocol = m[1], m[2]
	} else if m := richProtocol.FindStringSubmatch(text); m != nil {
		port, protocol = m[2], m[1]
	}
	services, ok := parsePorts(strings.ReplaceAll(port, "-", ":"))
	if port == "" || !ok {
		return nil, closing, unclear
	}
	return o.fill(protocolNumber(protocol), services, netip.AddrPort{}, closing)
}
