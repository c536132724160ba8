package iptables

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern/internal/policy"
)

// A match is one condition of a rule, or one thing that a rule does to a list.
type match struct {
	full  string      // as iptables-save lists it
	brief string      // the least that iptables takes; empty: the same
	list  *recentList // whose name %s in them stands for
	opens string      // the comment of a rule that opens a door, and counts that; else ""
	alone bool        // only where there are no other rules
}

// rank is where a match is listed: addresses, interface and protocol before all
// others, which stay in their order.
func (m match) rank() int {
	for i, option := range []string{"-s", "-d", "-i", "-p"} {
		if strings.HasPrefix(strings.TrimPrefix(m.full, "! "), option+" ") {
			return i
		}
	}
	return 4
}

// A recentList is a list of sources that xt_recent keeps, or a table of budgets of
// xt_hashlimit. The kernel knows it by its name, in a network namespace, for both
// families.
type recentList struct {
	alone  string // its name in rules that stand alone
	shared string // its name in rules beside others', or if it has an id, how that begins
	kind   listKind
	id     uint64 // of the state, the grant, or the device and door
	door   string // whose grant for its first service it is; else ""
}

// A listKind says what the id of a list is of. Zero: it has none.
type listKind byte

const (
	ofState listKind = 's'
	ofGrant listKind = 'g'
	ofKey   listKind = 'k'
)

// loaded is the list's name in rules beside others'.
func (t *recentList) loaded(k *listKey) string {
	if t.kind == 0 {
		return t.shared
	}
	return t.shared + "-" + k.seal(t.kind, t.id)
}

func matching(full string, args ...any) match { return match{full: fmt.Sprintf(full, args...)} }

var (
	isTCP = matching("-p tcp")
	isUDP = matching("-p udp")

	// isSYN is what opens a TCP connection; other flags than these four do not matter.
	isSYN  = match{full: "--tcp-flags FIN,SYN,RST,ACK SYN", brief: "--syn"}
	notSYN = match{full: "-m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", brief: "! --syn"}

	toOthers = matching("-m addrtype ! --dst-type LOCAL")
	isKnown  = match{full: "-m conntrack --ctstate RELATED,ESTABLISHED", brief: "-m conntrack --ctstate ESTABLISHED,RELATED"}
	// Of the two, general rules ask for each by itself.
	isEstablished = matching("-m conntrack --ctstate ESTABLISHED")
	isRelated     = matching("-m conntrack --ctstate RELATED")

	// isRouted matches IPv6 packets with a routing header.
	isRouted = match{full: "-m ipv6header --header ipv6-route --soft", brief: "-m ipv6header --soft --header route"}

	isAgain   = matching("-m conntrack --ctstatus CONFIRMED")
	isInvalid = matching("-m conntrack --ctstate INVALID")
	isACK     = match{full: "-m tcp --tcp-flags FIN,SYN,RST,ACK ACK", brief: "--tcp-flags FIN,SYN,RST,ACK ACK"}
)

// withFlags matches TCP packets that have just these of some flags.
func withFlags(full, brief string) []match {
	return []match{isTCP, {full: "-m tcp --tcp-flags " + full, brief: "--tcp-flags " + brief}}
}

// on matches packets to a port, or echo requests.
func (f Family) on(p policy.Port) []match {
	switch {
	case p.Protocol == policy.ICMP && f == IPv6:
		return []match{f.icmp(), icmp6(128)}
	case p.Protocol == policy.ICMP:
		return []match{f.icmp(), icmp4(8)}
	}
	return []match{
		matching("-p %s", p.Protocol),
		{full: fmt.Sprintf("-m %s --dport %d", p.Protocol, p.Number), brief: fmt.Sprintf("--dport %d", p.Number)},
	}
}

// ofProtocol matches all packets of a protocol. It is written by its number unless
// every iptables knows its name: where there is no /etc/protocols it knows few.
func ofProtocol(p policy.Protocol) match {
	switch p {
	case policy.ESP, policy.AH, policy.GRE, policy.VRRP:
		return matching("-p %s", p)
	}
	return matching("-p %d", p)
}

// icmp matches the family's ICMP.
func (f Family) icmp() match {
	if f == IPv6 {
		return matching("-p ipv6-icmp")
	}
	return matching("-p icmp")
}

func icmp4(kind int) match {
	return match{full: fmt.Sprintf("-m icmp --icmp-type %d", kind), brief: fmt.Sprintf("--icmp-type %d", kind)}
}

func icmp6(kind int) match {
	return match{full: fmt.Sprintf("-m icmp6 --icmpv6-type %d", kind), brief: fmt.Sprintf("--icmpv6-type %d", kind)}
}

// openingTo makes a match of a TCP port one of the packets to it that open a connection.
func openingTo(m match) match {
	return match{full: m.full + " " + isSYN.full, brief: m.brief + " " + isSYN.brief}
}

// between matches packets to a range of ports.
func between(p policy.Protocol, first, last uint16) []match {
	ports := strconv.Itoa(int(first))
	if last != first {
		ports += ":" + strconv.Itoa(int(last))
	}
	return []match{
		matching("-p %s", p),
		{full: fmt.Sprintf("-m %s --dport %s", p, ports), brief: "--dport " + ports},
	}
}

// answering matches UDP from one port to another.
func answering(from, to int) []match {
	return []match{isUDP, {
		full: fmt.Sprintf("-m udp --sport %d --dport %d", from, to), brief: fmt.Sprintf("--sport %d --dport %d", from, to),
	}}
}

func from(p netip.Prefix) match    { return address("-s", p) }
func notFrom(p netip.Prefix) match { return address("! -s", p) }

func toAddress(a netip.Addr) match { return address("-d", netip.PrefixFrom(a, a.BitLen())) }

func address(option string, p netip.Prefix) match {
	brief := p.String()
	if p.IsSingleIP() {
		brief = p.Addr().String()
	}
	return match{full: option + " " + p.String(), brief: option + " " + brief}
}

func by(name string) match { return matching("-i %s", name) }

// sourceBits is how much of an address is one source.
func (c *compiler) sourceBits() int {
	if c.f == IPv6 {
		return c.p.Source.IPv6
	}
	return c.p.Source.IPv4
}

// recent is a match of xt_recent.
func (c *compiler) recent(t *recentList, do string) match {
	bits := c.sourceBits()
	full := fmt.Sprintf("-m recent %s --name %%s --mask %s --rsource", do, mask(c.f, bits))
	brief := fmt.Sprintf("-m recent --name %%s %s", do)
	if bits != c.f.bits() {
		brief += " --mask " + mask(c.f, bits)
	}
	return match{full: full, brief: brief, list: t}
}

func (c *compiler) set(t *recentList) match {
	m := c.recent(t, "--set")
	if t.door != "" {
		m.opens = opensDoor + t.door
	}
	return m
}

// renew matches sources that are on the list, and puts them there again.
func (c *compiler) renew(t *recentList) match { return c.recent(t, "--update") }

func (c *compiler) remove(t *recentList) match { return c.recent(t, "--remove") }

// within matches sources that were put on the list so short a time ago.
func (c *compiler) within(t *recentList, d time.Duration) match {
	return c.recent(t, fmt.Sprintf("--rcheck --seconds %d", d/time.Second))
}

// mask writes a prefix length as xt_recent wants it.
func mask(f Family, bits int) string { return net.IP(net.CIDRMask(bits, f.bits())).String() }

// joinMatches writes matches after one another.
func joinMatches(matches []match, write func(match) string) string {
	var words []string
	for _, m := range matches {
		words = append(words, write(m))
	}
	return strings.Join(words, " ")
}
