package migrate

import (
	"cmp"
	"fmt"
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
	form    string // its words, to find it again by
	tests   []test
	target  string // a verdict, a chain, or empty
	jumps   bool   // by -g: what the chain leaves undecided does not come back
	options map[string]string

	passed bool // by some packet on paper
	marked bool // it is in the policy, or in the list
}

// A test is one condition of a rule.
type test struct {
	kind testKind
	not  bool

	protocol int // an IP protocol; 0 is any, -1 one that is not known here
	network  netip.Prefix
	name     string // of an interface
	ports    []policy.Service
	words    []string // of a state, or a type
	mask     flags
	flags    flags
	recent   recent
	why      string // a condition is not understood
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

// A recent is the match that remembers addresses.
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

// arguments are the options that are known, with how many words follow each.
var arguments = map[string]int{
	"--dport": 1, "--destination-port": 1, "--sport": 1, "--source-port": 1,
	"--dports": 1, "--destination-ports": 1, "--sports": 1, "--source-ports": 1, "--ports": 1,
	"--tcp-flags": 2, "--syn": 0, "--icmp-type": 1, "--icmpv6-type": 1, "--state": 1, "--ctstate": 1, "--ctstatus": 1,
	"--set": 0, "--rcheck": 0, "--update": 0, "--remove": 0, "--name": 1, "--seconds": 1, "--hitcount": 1,
	"--reap": 0, "--rttl": 0, "--rsource": 0, "--rdest": 0, "--mask": 1,
	"--comment": 1, "--limit": 1, "--limit-burst": 1, "--src-type": 1, "--dst-type": 1, "--pkt-type": 1,
	"--connlimit-above": 1, "--connlimit-upto": 1, "--connlimit-mask": 1, "--connlimit-saddr": 0, "--connlimit-daddr": 0,
	"--hashlimit-above": 1, "--hashlimit-upto": 1, "--hashlimit": 1, "--hashlimit-burst": 1, "--hashlimit-mode": 1,
	"--hashlimit-name": 1, "--hashlimit-srcmask": 1, "--hashlimit-htable-expire": 1, "--hashlimit-htable-size": 1,
	"--hashlimit-htable-max": 1, "--hashlimit-htable-gcinterval": 1, "--hashlimit-dstmask": 1,
	"--reject-with": 1, "--log-prefix": 1, "--log-level": 1, "--log-tcp-options": 0, "--log-ip-options": 0,
	"--log-uid": 0, "--log-tcp-sequence": 0, "--nflog-group": 1, "--nflog-prefix": 1, "--nflog-threshold": 1,
	"--nflog-size": 1, "--nflog-range": 1, "--to-destination": 1, "--to-source": 1, "--to-ports": 1, "--to": 1, "--to-port": 1, "--random": 0,
	"--persistent": 0, "--nowildcard": 0, "--transparent": 0, "--restore-skmark": 0,
	"-p": 1, "--protocol": 1, "--proto": 1, "-s": 1, "--source": 1, "--src": 1, "-d": 1, "--destination": 1, "--dst": 1,
	"-i": 1, "--in-interface": 1, "-o": 1, "--out-interface": 1, "-f": 0, "--fragment": 0, "-m": 1, "--match": 1,
	"-j": 1, "--jump": 1, "-g": 1, "--goto": 1,
}

// plainMatches are those that ask for nothing by themselves, or for what is
// looked at here.
var plainMatches = []string{
	"tcp", "udp", "icmp", "icmp6", "icmpv6", "comment", "multiport", "state", "conntrack", "recent", "limit", "hashlimit",
	"connlimit", "addrtype", "pkttype", "socket",
}

// parseRule reads the words of a rule. What it does not understand becomes a
// test that says so: a rule is never refused.
func parseRule(args []string, v6 bool) *rule {
	r := &rule{form: strings.Join(args, " "), options: map[string]string{}}
	var ip []test    // the header's, which the kernel looks at first
	matching := true // rather than in the options of the target
	for i := 0; i < len(args); {
		not := false
		option := args[i]
		if option == "!" && i+1 < len(args) {
			not = true
			i++
			option = args[i]
		}
		i++
		var values []string
		if name, value, joined := strings.Cut(option, "="); joined && strings.HasPrefix(option, "--") {
			option, values = name, []string{value}
		}
		if i < len(args) && args[i] == "!" && i+1 < len(args) && arguments[option] > 0 { // the old place
			not = true
			i++
		}
		count, known := arguments[option]
		for i < len(args) && (known && len(values) < count || !known && !strings.HasPrefix(args[i], "-") && args[i] != "!") {
			values = append(values, args[i])
			i++
		}
		for known && len(values) < count {
			values = append(values, "")
		}
		switch option {
		case "-j", "--jump":
			r.target, matching = values[0], false
		case "-g", "--goto":
			r.target, r.jumps, matching = values[0], true, false
		case "-m", "--match":
			matching = true
			switch name := values[0]; {
			case name == "recent":
				r.tests = append(r.tests, test{kind: onRecent, recent: recent{name: "DEFAULT"}})
			case name == "socket":
				r.tests = append(r.tests, test{kind: onSocket})
			case !slices.Contains(plainMatches, name):
				r.tests = append(r.tests, test{kind: onUnknown, why: fmt.Sprintf("the match %q is not one that a policy knows", short(name))})
			}
		case "-p", "--protocol", "--proto", "-s", "--source", "--src", "-d", "--destination", "--dst",
			"-i", "--in-interface", "-o", "--out-interface", "-f", "--fragment":
			ip = append(ip, headerTest(option, values, v6, not))
		default:
			if r.option(option, values, not); !known && matching {
				r.tests = append(r.tests, test{kind: onUnknown, not: not, why: "the condition " + option + " is not one that a policy knows"})
			}
		}
	}
	r.tests = append(ip, r.tests...)
	return r
}

func headerTest(option string, values []string, v6, not bool) test {
	t := test{not: not}
	switch option {
	case "-p", "--protocol", "--proto":
		t.kind, t.protocol = onProtocol, protocolNumber(values[0])
		if t.protocol < 0 {
			return test{kind: onUnknown, why: "the protocol " + values[0] + " is not one that a policy knows"}
		}
	case "-i", "--in-interface":
		t.kind, t.name = onInterface, values[0]
	case "-o", "--out-interface":
		t.kind, t.name = onOutput, values[0]
	case "-f", "--fragment":
		return test{kind: onUnknown, why: "fragments are put together before they are judged", not: not}
	default:
		t.kind = onAddress
		if option[1] == 's' || strings.HasPrefix(option, "--s") {
			t.kind = onSource
		}
		p, ok := parseNetwork(values[0])
		if !ok || p.Addr().Is6() != v6 {
			return test{kind: onUnknown, why: "the address " + values[0] + " is not one address or network of this family"}
		}
		t.network = p
	}
	return t
}

// option reads an option of a match or a target.
func (r *rule) option(option string, values []string, not bool) {
	add := func(t test) {
		t.not = not
		r.tests = append(r.tests, t)
	}
	value := ""
	if len(values) > 0 {
		value = values[0]
	}
	switch option {
	case "--dport", "--destination-port", "--dports", "--destination-ports", "--sport", "--source-port", "--sports", "--source-ports":
		t := test{kind: onPort}
		if option[2] == 's' {
			t.kind = onSourcePort
		}
		var ok bool
		if t.ports, ok = parsePorts(value); !ok {
			t = test{kind: onUnknown, why: "the port " + value + " is not a number"}
		}
		add(t)
	case "--tcp-flags":
		add(test{kind: onFlags, mask: parseFlags(value), flags: parseFlags(values[1])})
	case "--syn":
		add(test{kind: onFlags, mask: fin | syn | rst | ack, flags: syn})
	case "--icmp-type", "--icmpv6-type":
		add(test{kind: onICMP, words: []string{value}})
	case "--state", "--ctstate":
		add(test{kind: onState, words: strings.Split(strings.ToUpper(value), ",")})
	case "--ctstatus":
		if strings.Contains(strings.ToUpper(value), "NONE") {
			break
		}
		add(test{kind: onState, words: []string{"KNOWN"}})
	case "--ports":
		add(test{kind: onUnknown, why: whySourcePort})
	case "--src-type":
		add(test{kind: onSourceType, words: strings.Split(strings.ToUpper(value), ",")})
	case "--dst-type":
		add(test{kind: onType, words: strings.Split(strings.ToUpper(value), ",")})
	case "--pkt-type":
		add(test{kind: onType, words: []string{strings.ToUpper(value)}})
	case "--set", "--rcheck", "--update", "--remove", "--name", "--seconds", "--hitcount", "--mask", "--rdest", "--rttl":
		r.recentOption(option[2:], value, not)
	case "--limit", "--hashlimit-upto", "--hashlimit", "--connlimit-upto":
		add(test{kind: onRate})
	case "--hashlimit-above", "--connlimit-above":
		add(test{kind: onFlood})
	case "--to", "--to-port": // short for one of these
		long := map[string]string{"REDIRECT": "--to-ports", "SNAT": "--to-source"}[r.target]
		r.options[cmp.Or(long, "--to-destination")] = value
	case "--reject-with", "--log-prefix", "--nflog-group", "--nflog-prefix", "--to-destination", "--to-ports", "--to-source":
		r.options[option] = value
	}
}

func (r *rule) recentOption(option, value string, not bool) {
	last := len(r.tests) - 1
	for last >= 0 && r.tests[last].kind != onRecent {
		last--
	}
	if last < 0 {
		r.tests = append(r.tests, test{kind: onUnknown, why: "the condition --" + option + " belongs to no match"})
		return
	}
	t := &r.tests[last]
	switch option {
	case "name":
		t.recent.name = value
	case "seconds":
		n, _ := strconv.Atoi(value)
		t.recent.seconds = time.Duration(min(max(int64(n), 0), 1<<31)) * time.Second
	case "hitcount":
		t.recent.hits, _ = strconv.Atoi(value)
	case "rdest":
		t.recent.rdest = true
	case "mask":
		if a, err := netip.ParseAddr(value); err == nil {
			t.recent.bits = ones(a)
		}
	case "rttl":
		r.tests = append(r.tests, test{kind: onRate, why: "a policy does not look at how far a packet has come"})
	default:
		t.recent.verb, t.not = option, not
	}
}

// igmp is what a host says to routers about multicast.
const igmp = 2

func protocolNumber(text string) int {
	switch strings.ToLower(text) {
	case "all":
		return 0
	case "icmp", "ipv6-icmp", "icmpv6", "icmp6", "58":
		return int(policy.ICMP)
	case "tcp", "udp", "gre", "esp", "ah", "vrrp":
		for _, p := range []policy.Protocol{policy.TCP, policy.UDP, policy.GRE, policy.ESP, policy.AH, policy.VRRP} {
			if p.String() == strings.ToLower(text) {
				return int(p)
			}
		}
	}
	if n, known := map[string]int{"igmp": igmp, "ospf": 89, "pim": 103, "sctp": 132, "dccp": 33, "udplite": 136, "ipv6": 41, "ipip": 94}[strings.ToLower(text)]; known {
		return n
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < 256 {
		return n
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
	for _, b := range mask.AsSlice() {
		for bit := byte(0x80); bit != 0 && b&bit != 0; bit >>= 1 {
			n++
		}
		if b != 0xff {
			break
		}
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
		if isRange && first == "" {
			first = "0"
		}
		if isRange && last == "" {
			last = "65535"
		}
		a, ok := portNumber(first)
		b := a
		if isRange && ok {
			b, ok = portNumber(last)
		}
		if !ok || b < a {
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
