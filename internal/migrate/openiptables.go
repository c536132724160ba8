package migrate

import (
	"net/netip"
	"strings"

	"postern/internal/policy"
)

// Stand-ins for the knocker's address, as knockd puts it in for %IP%: such as
// nobody writes, nor a network that they are in.
var knockers = map[bool]netip.Addr{
	false: netip.MustParseAddr("255.255.255.254"),
	true:  netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
}

// iptablesCommand reads "iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
// and a DNAT.
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
	problem := inChain(chain)
	switch {
	case problem != "":
		return nil, false, problem
	case isForward && forward.Addr() == knocker:
		return nil, false, "it sends packets on to who knocked"
	case r.target == "DNAT" && table == "nat" && isForward:
	case r.target != "ACCEPT":
		return nil, false, "it adds or takes away a rule that does not accept"
	case table != "filter":
		return nil, false, "to accept in the table " + short(table) + " lets nothing in by itself"
	default:
		forward = netip.AddrPort{}
	}
	o := &opened{}
	protocol, source := 0, ""
	var services []policy.Service
	for _, t := range r.tests {
		switch {
		case t.not:
			return nil, false, unclear
		case t.kind == onProtocol:
			protocol = t.protocol
		case t.kind == onPort:
			services = t.ports
		case t.kind == onAddress && t.network.Bits() > 0 && t.network.Contains(knocker):
			return nil, false, "it is about packets to who knocked, which are not for this host"
		case t.kind == onAddress && t.network.IsSingleIP():
			o.to = t.network.Addr()
		case t.kind == onSource:
			source = t.network.String()
			if t.network.Bits() > 0 && t.network.Contains(knocker) {
				source = "%IP%" + source[strings.Index(source, "/"):]
			}
		case t.kind == onState, t.kind == onFlags, t.kind == onType, t.kind == onAddress && t.network.Bits() == 0:
		case t.kind == onInterface:
			o.notes = append(o.notes, oneInterface(t.name))
		case t.kind == onRate:
			o.notes = append(o.notes, whyNoLimit)
		default:
			return nil, false, unclear
		}
	}
	if problem := o.whom(source); problem != "" {
		return nil, false, problem
	}
	return o.fill(protocol, services, forward, closing)
}

const whyNoLimit = "a policy has no limit for what a door lets in"

func oneInterface(name string) string {
	return "the rule is for the interface " + short(name) + " alone, and the door for all that the policy names"
}

// helperCommand reads a call of the script that comes with knockd, which adds or
// deletes a rule: "knock_add -i -c INPUT -p tcp -d 22 -f %IP%".
func helperCommand(args []string) (*opened, bool, string) {
	closing, protocol, port, source, chain := false, "tcp", "", "", "INPUT"
	for i, a := range args {
		option, value, joined := strings.Cut(a, "=")
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		switch option {
		case "-x", "--delete":
			closing = true
		case "-p", "--proto":
			protocol = value
		case "-d", "--dstport":
			port = value
		case "-f", "--srcaddr":
			source = value
		case "-c", "--chain":
			chain = value
		}
	}
	services, ok := parsePorts(port)
	if port == "" || source == "" || !ok {
		return nil, closing, "which port it opens, and for whom, cannot be told"
	}
	if problem := inChain(chain); problem != "" {
		return nil, closing, problem
	}
	o := &opened{}
	if problem := o.whom(source); problem != "" {
		return nil, closing, problem
	}
	return o.fill(protocolNumber(protocol), services, netip.AddrPort{}, closing)
}
