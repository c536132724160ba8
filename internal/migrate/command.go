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
	from     []netip.Prefix // to these and no others; to the knocker if it is empty
	timeout  time.Duration  // after which it is closed again
	notes    []string       // where the policy does otherwise
}

// key is the same for two commands that are about the same.
func (o *opened) key() string { return fmt.Sprint(o.what(), o.from) }

// what is the key without its sources, which differ between IPv4 and IPv6.
func (o *opened) what() string { return fmt.Sprint(o.services, o.forward) }

// An effect is what a command line of knockd's does, which may have several
// commands.
type effect struct {
	opens  *opened  // nil: nothing that a door can
	closes string   // the key of what it closes; empty: nothing
	notes  []string // what else it does, where it opens nothing
	why    string   // it opens nothing
}

// something is the key of what is closed, but not by its name.
const something = "something"

// effectOf reads a command line.
func effectOf(line string) effect {
	commands, err := readShell(line)
	if err != nil {
		return effect{why: "its command is not understood"}
	}
	o, closed, slept := &opened{}, &opened{}, time.Duration(0)
	e := effect{why: "its command opens nothing"}
	for i := range commands {
		c := &commands[i]
		a, closing, problem := readCommand(c)
		switch n := c.sleeps(); {
		case c.never != "":
		case n > 0:
			slept += n
		case problem != "":
			e.why = problem
			o.notes = append(o.notes, problem)
		case closing && len(o.services) > 0 && slept > 0:
			o.timeout = slept
		case closing: // it may make room for what is then opened anew
			if e.closes = something; closed.join(a) && len(closed.services) > 0 {
				e.closes = closed.key()
			}
		case !o.join(a):
			e.why = "its commands open different things to different addresses: write the doors by hand"
			return e
		default:
			o.notes = append(o.notes, a.notes...)
			o.timeout = max(o.timeout, a.timeout)
			if c.depends {
				o.notes = append(o.notes, "it depends on a condition, and is taken as done")
			}
		}
	}
	if len(o.services) > 0 {
		e.opens = o
	} else {
		e.notes = o.notes
	}
	return e
}

// sleeps returns how long a command waits.
func (c *command) sleeps() time.Duration {
	if c.program() != "sleep" || len(c.words) < 2 {
		return 0
	}
	d, err := time.ParseDuration(c.words[1])
	if err != nil {
		d, _ = time.ParseDuration(c.words[1] + "s")
	}
	return d
}

// join adds what another command opens, and reports whether one door can do both.
func (o *opened) join(a *opened) bool {
	switch {
	case len(a.services) == 0:
		return true
	case len(o.services) == 0:
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

// undoes reports whether a command line closes what was opened, for all one can tell.
func (o *opened) undoes(line string) bool {
	key := effectOf(line).closes
	return key == o.key() || key == something
}

const (
	whyNoLimit = "a policy has no limit for what a door lets in"
	byHand     = ", and a door names its services: write the door by hand"
)

// inChain says why a rule in a chain of that name makes no door.
func inChain(name string) (problem string) {
	switch upper := strings.ToUpper(name); {
	case upper == "OUTPUT" || upper == "POSTROUTING":
		return "it is about what goes out, and a door about what comes in"
	case strings.HasPrefix(upper, "DOCKER"):
		return name + " is about published ports, by their number in the container: write the published port as the door's service"
	case strings.Contains(upper, "FORWARD") || strings.Contains(upper, "FWD"):
		return "it opens the way to another host; a door does that with forward"
	}
	return ""
}

// Stand-ins for the knocker's address, which knockd puts in for %IP%: such as
// nobody writes, nor a network that they are in.
var knockers = map[bool]netip.Addr{
	false: netip.MustParseAddr("255.255.255.254"),
	true:  netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
}

// iptablesCommand reads "-A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT", and a DNAT.
func iptablesCommand(args []string, v6 bool) (*opened, bool, string) {
	const unclear = "what this rule opens cannot be told"
	knocker := knockers[v6]
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "%IP%", knocker.String())
	}
	table, args := tableOf("filter", args)
	if len(args) < 2 {
		return nil, false, unclear
	}
	verb, chain, args := args[0], args[1], args[2:]
	if long, is := longVerbs[verb]; is {
		verb = long
	}
	closing := verb == "-D"
	if !closing && !slices.Contains([]string{"-A", "-I", "-R"}, verb) {
		return nil, false, unclear
	}
	if len(args) > 0 && strings.Trim(args[0], "0123456789") == "" {
		if args = args[1:]; closing {
			return &opened{}, true, ""
		}
	}
	r := parseRule(args, v6)
	forward, isForward := parseEndpoint(r.options["--to-destination"], 1)
	switch problem := inChain(chain); {
	case problem != "":
		return nil, false, problem
	case isForward && forward.Addr() == knocker:
		return nil, false, "it sends packets on to the sender that knocked"
	case r.target == "DNAT" && table == "nat" && isForward:
	case r.target != "ACCEPT":
		return nil, false, "it adds or takes away a rule that does not accept"
	case table != "filter":
		return nil, false, "to accept in the table " + short(table) + " lets nothing in by itself"
	default:
		forward = netip.AddrPort{}
	}
	o := &opened{}
	protocol, source := policy.Protocol(0), netip.Prefix{}
	var ports []policy.Service
	for _, t := range r.tests {
		switch {
		case t.not:
			return nil, false, unclear
		case t.kind == onProtocol:
			protocol = policy.Protocol(t.protocol)
		case t.kind == onPort:
			ports = t.ports
		case t.kind == onAddress && t.network.Bits() > 0 && t.network.Contains(knocker):
			return nil, false, "it is about packets to the sender that knocked, which are not for this host"
		case t.kind == onAddress && t.network.IsSingleIP():
			o.to = t.network.Addr()
		case t.kind == onSource:
			source = t.network
		case t.kind == onState, t.kind == onFlags, t.kind == onType, t.kind == onAddress && t.network.Bits() == 0:
		case t.kind == onInterface:
			o.notes = append(o.notes, "the rule is for the interface "+short(t.name)+" alone, and the door for all that the policy names")
		case t.kind == onRate:
			o.notes = append(o.notes, whyNoLimit)
		case strings.HasPrefix(t.why, "the address "):
			return nil, false, "it lets in neither the knocker nor one address or network"
		default:
			return nil, false, unclear
		}
	}
	o.lets(source, knocker)
	if len(ports) == 0 || protocol != policy.TCP && protocol != policy.UDP {
		return nil, closing, "it opens every port" + byHand
	}
	for _, p := range ports {
		if p.First == 0 || int(p.Last)-int(p.First) >= maxExpanded {
			return nil, closing, "it opens a wide range of ports" + byHand
		}
		for n := int(p.First); n <= int(p.Last); n++ {
			o.services = append(o.services, policy.Port{Protocol: protocol, Number: uint16(n)})
		}
	}
	if o.forward = forward; forward.Port() == 1 { // no port was written: it stays the same
		o.forward = netip.AddrPortFrom(forward.Addr(), o.services[0].Number)
	}
	return o, closing, ""
}

// lets notes where the policy does not let in the same source.
func (o *opened) lets(source netip.Prefix, knocker netip.Addr) {
	switch {
	case source.Bits() <= 0: // none, or all
		o.notes = append(o.notes, "the rule lets everyone in; the policy only who knocked")
	case source.IsSingleIP() && source.Addr() == knocker:
	case source.Contains(knocker):
		o.notes = append(o.notes, fmt.Sprintf("the rule lets in the whole network of the sender that knocked (%%IP%%/%d); the policy only who knocked", source.Bits()))
	default:
		o.from = append(o.from, source)
		o.notes = append(o.notes, fmt.Sprintf("the rule lets in %s, no matter who knocked; by the policy only senders from there can knock", policy.FormatNetwork(source)))
	}
}
