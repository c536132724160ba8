package migrate

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/policy"
)

// A rule is one of iptables: tests in the order in which the kernel makes them,
// and what becomes of a packet that passes all.
type rule struct {
	line    int
	words   string // to find it again by
	tests   []test
	target  string // a verdict, a chain, or empty
	isGoto  bool   // by -g: what the chain leaves undecided does not come back
	options map[string]string

	passed    bool // by some packet on paper
	explained bool // it is in the policy, or in a remark
}

// A test is one condition of a rule.
type test struct {
	kind testKind
	not  bool

	protocol int // an IP protocol; 0 is any
	network  netip.Prefix
	name     string // of an interface
	ports    []policy.Service
	words    []string // of a state, or a type
	mask     flags
	flags    flags
	recent   recent
	why      string // the policy cannot ask for it
}

type testKind int

const (
	onProtocol testKind = iota
	onSource
	onAddress
	onInterface
	onOutput
	onPort
	onSourcePort
	onState
	onFlags
	onICMP
	onRecent
	onType // of the address
	onSourceType
	onSocket // a program listens
	onRate   // holds for ordinary traffic
	onFlood  // holds for a flood only
	onUnknown
)

// A recent is the match that keeps lists of addresses.
type recent struct {
	name    string
	verb    string // set, rcheck, update, remove
	seconds time.Duration
	hits    int
	bits    int // how much of the address counts; 0 is all
	rdest   bool
}

type flags uint8

const (
	fin flags = 1 << iota
	syn
	rst
	psh
	ack
	urg
)

// knownMatches are those that ask for nothing by themselves, or for what is
// looked at here.
var knownMatches = []string{
	"tcp", "udp", "icmp", "icmp6", "icmpv6", "comment", "multiport", "state", "conntrack", "recent", "limit", "hashlimit",
	"connlimit", "addrtype", "pkttype", "socket",
}

// silentOptions ask for nothing.
var silentOptions = []string{"--comment", "--reap", "--rsource", "--limit-burst", "--nowildcard", "--transparent", "--restore-skmark",
	"--connlimit-mask", "--connlimit-saddr", "--connlimit-daddr", "--random", "--persistent"}

// parseRule reads the words of a rule. What it does not understand becomes a
// test that says so: a rule is never refused.
func parseRule(args []string, v6 bool) *rule {
	r := &rule{words: strings.Join(args, " "), options: map[string]string{}}
	var header []test // which the kernel looks at first
	matching := true  // rather than in the options of the target
	for i := 0; i < len(args); {
		not := args[i] == "!" && i+1 < len(args)
		if not {
			i++
		}
		option, value, joined := strings.Cut(args[i], "=")
		if joined = joined && strings.HasPrefix(option, "--"); !joined {
			option, value = args[i], ""
		}
		i++
		if i+1 < len(args) && args[i] == "!" && !strings.HasPrefix(args[i+1], "-") { // where old versions have it
			not = true
			i++
		}
		free := slices.Contains([]string{"--comment", "--log-prefix", "--nflog-prefix", "-i", "--in-interface"}, option) // of what its value looks like
		var values []string
		for !joined && i < len(args) && (free && values == nil || !strings.HasPrefix(args[i], "-") && args[i] != "!") {
			values = append(values, args[i])
			i++
		}
		if len(values) > 0 {
			value = values[0]
		}
		switch option {
		case "-j", "--jump":
			r.target, matching = value, false
		case "-g", "--goto":
			r.target, r.isGoto, matching = value, true, false
		case "-m", "--match":
			matching = true
			switch {
			case value == "recent":
				r.tests = append(r.tests, test{kind: onRecent, recent: recent{name: "DEFAULT"}})
			case value == "socket":
				r.tests = append(r.tests, test{kind: onSocket})
			case !slices.Contains(knownMatches, value):
				r.tests = append(r.tests, test{kind: onUnknown, why: "a policy does not have the match \"" + short(value) + "\""})
			}
		default:
			if t, is := headerTest(option, value, v6); is {
				t.not = not
				header = append(header, t)
			} else if !r.option(option, value, values, not) && matching {
				r.tests = append(r.tests, test{kind: onUnknown, not: not, why: "a policy does not have the condition " + short(option)})
			}
		}
	}
	r.tests = append(header, r.tests...)
	return r
}

// headerTest reads a condition on a packet's header, and reports whether it is one.
func headerTest(option, value string, v6 bool) (t test, is bool) {
	switch option {
	case "-p", "--protocol", "--proto":
		if t.protocol = protocolNumber(value); t.protocol < 0 {
			return test{kind: onUnknown, why: "a policy does not have the protocol " + short(value)}, true
		}
	case "-i", "--in-interface":
		t.kind, t.name = onInterface, value
	case "-o", "--out-interface":
		t.kind = onOutput
	case "-f", "--fragment":
		return test{kind: onUnknown, why: "fragments are put together before they are judged"}, true
	case "-s", "--source", "--src", "-d", "--destination", "--dst":
		if t.kind = onAddress; strings.HasPrefix(strings.TrimLeft(option, "-"), "s") {
			t.kind = onSource
		}
		var ok bool
		if t.network, ok = parseNetwork(value); !ok || t.network.Addr().Is6() != v6 {
			return test{kind: onUnknown, why: "the address " + short(value) + " is not one address or network of this family"}, true
		}
	default:
		return t, false
	}
	return t, true
}

const whySourcePort = "a policy does not look at the sender's port"

// option reads an option of a match or a target, and reports whether it is known.
func (r *rule) option(option, value string, values []string, not bool) bool {
	t := test{not: not}
	upper := strings.Split(strings.ToUpper(value), ",")
	switch option {
	case "--dport", "--destination-port", "--dports", "--destination-ports", "--sport", "--source-port", "--sports", "--source-ports":
		t.kind = onPort
		if option[2] == 's' {
			t.kind = onSourcePort
		}
		var ok bool
		if t.ports, ok = parsePorts(value); !ok {
			t = test{kind: onUnknown, not: not, why: "the port " + short(value) + " is not a number"}
		}
	case "--ports":
		t.kind, t.why = onUnknown, whySourcePort
	case "--tcp-flags":
		t.kind, t.mask = onFlags, parseFlags(value)
		if len(values) > 1 {
			t.flags = parseFlags(values[1])
		}
	case "--syn":
		t.kind, t.mask, t.flags = onFlags, fin|syn|rst|ack, syn
	case "--icmp-type", "--icmpv6-type":
		t.kind, t.words = onICMP, []string{value}
	case "--state", "--ctstate":
		t.kind, t.words = onState, upper
	case "--ctstatus":
		if slices.Contains(upper, "NONE") {
			return true
		}
		t.kind, t.words = onState, []string{"KNOWN"}
	case "--src-type":
		t.kind, t.words = onSourceType, upper
	case "--dst-type", "--pkt-type":
		t.kind, t.words = onType, upper
	case "--limit", "--hashlimit-upto", "--hashlimit", "--connlimit-upto":
		t.kind = onRate
	case "--hashlimit-above", "--connlimit-above":
		t.kind = onFlood
	case "--rttl":
		t.kind, t.why = onRate, "a policy does not look at how far a packet has come"
	case "--set", "--rcheck", "--update", "--remove", "--name", "--seconds", "--hitcount", "--mask", "--rdest":
		if r.recentOption(option[2:], value, not) {
			return true
		}
		t.kind, t.why = onUnknown, "the condition "+option+" belongs to no match"
	case "--to", "--to-port": // short for one of these
		long := map[string]string{"REDIRECT": "--to-ports", "SNAT": "--to-source"}[r.target]
		r.options[cmp.Or(long, "--to-destination")] = value
		return true
	case "--reject-with", "--log-prefix", "--nflog-group", "--nflog-prefix", "--to-destination", "--to-ports", "--to-source", "--set-xmark":
		r.options[option] = value
		return true
	default:
		return slices.Contains(silentOptions, option) || strings.HasPrefix(option, "--hashlimit-")
	}
	r.tests = append(r.tests, t)
	return true
}

// recentOption changes the match "recent" that was begun last, if there is one.
func (r *rule) recentOption(option, value string, not bool) bool {
	for i := len(r.tests) - 1; i >= 0; i-- {
		t := &r.tests[i]
		if t.kind != onRecent {
			continue
		}
		switch option {
		case "name":
			t.recent.name = value
		case "seconds":
			n, _ := strconv.ParseUint(value, 10, 31)
			t.recent.seconds = time.Duration(n) * time.Second
		case "hitcount":
			t.recent.hits, _ = strconv.Atoi(value)
		case "rdest":
			t.recent.rdest = true
		case "mask":
			if a, err := netip.ParseAddr(value); err == nil {
				t.recent.bits = ones(a)
			}
		default:
			t.recent.verb, t.not = option, not
		}
		return true
	}
	return false
}

// usesLists reports whether a rule looks at, or changes, a list of "recent".
func (r *rule) usesLists() bool {
	return slices.ContainsFunc(r.tests, func(t test) bool { return t.kind == onRecent })
}

// igmp is what a host says to routers about multicast.
const igmp = 2

// protocols are names beside those that a policy has.
var protocols = map[string]int{"all": 0, "icmp": 1, "ipv6-icmp": 1, "icmpv6": 1, "icmp6": 1, "58": 1,
	"igmp": igmp, "ospf": 89, "pim": 103, "sctp": 132, "dccp": 33, "udplite": 136, "ipencap": 4, "ipv6": 41, "ipip": 94,
	"eigrp": 88, "l2tp": 115}

func protocolNumber(text string) int {
	text = strings.ToLower(text)
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP, policy.GRE, policy.ESP, policy.AH, policy.VRRP} {
		if p.String() == text {
			return int(p)
		}
	}
	if n, known := protocols[text]; known {
		return n
	}
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		return int(n)
	}
	return -1
}

// parseNetwork reads an address with or without a prefix length or mask.
func parseNetwork(text string) (netip.Prefix, bool) {
	host, bits, slash := strings.Cut(text, "/")
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, false
	}
	n := a.BitLen()
	if slash {
		if mask, err := netip.ParseAddr(bits); err == nil && mask.BitLen() == n {
			if n = ones(mask); netip.PrefixFrom(mask, n).Masked().Addr() != mask {
				return netip.Prefix{}, false
			}
		} else if n, err = strconv.Atoi(bits); err != nil {
			return netip.Prefix{}, false
		}
	}
	p, err := a.Prefix(n)
	return p, err == nil
}

// ones counts the leading ones of a mask.
func ones(mask netip.Addr) int {
	n := 0
	for n < mask.BitLen() && mask.AsSlice()[n/8]&(0x80>>(n%8)) != 0 {
		n++
	}
	return n
}

func parseFlags(text string) (f flags) {
	for name := range strings.SplitSeq(strings.ToUpper(text), ",") {
		switch i := slices.Index([]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"}, name); {
		case i >= 0:
			f |= 1 << i
		case name == "ALL":
			f = fin | syn | rst | psh | ack | urg
		}
	}
	return f
}

// parsePorts reads "22", "ssh", "22,80", "1000:2000".
func parsePorts(text string) (all []policy.Service, ok bool) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if isRange {
			first, last = cmp.Or(first, "0"), cmp.Or(last, "65535")
		} else {
			last = first
		}
		a, ok := portNumber(first)
		b, also := portNumber(last)
		if !ok || !also || b < a {
			return nil, false
		}
		all = append(all, policy.Service{First: a, Last: b})
	}
	return all, true
}

func portNumber(text string) (uint16, bool) {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return uint16(n), true
	}
	p, known := wellKnown[strings.ToLower(text)]
	return p.Number, known
}
