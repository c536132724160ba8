package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern/internal/document"
)

type namedProtocol struct {
	name     string
	protocol Protocol
	ports    bool
}

// protocols are those that a policy can name, except ICMP, which is written
// only as "icmp/echo". All others are written by their number: "protocol/253".
var protocols = []namedProtocol{
	{"tcp", TCP, true},
	{"udp", UDP, true},
	{"esp", ESP, false},
	{"ah", AH, false},
	{"gre", GRE, false},
	{"vrrp", VRRP, false},
	{"ospf", OSPF, false},
	{"eigrp", EIGRP, false},
	{"pim", PIM, false},
	{"ipip", IPIP, false},
	{"6in4", SIT, false},
	{"l2tp", L2TP, false},
	{"sctp", SCTP, false},
}

// portless returns the names of the protocols that have no ports in a policy.
func portless() string {
	var names []string
	for _, p := range protocols {
		if !p.ports {
			names = append(names, p.name)
		}
	}
	return strings.Join(names, ", ")
}

// String returns the protocol's name in a policy, or its number.
func (p Protocol) String() string {
	for _, known := range protocols {
		if known.protocol == p {
			return known.name
		}
	}
	switch p {
	case ICMP:
		return "icmp"
	case ICMPv6:
		return "icmpv6"
	}
	return byNumber + "/" + strconv.Itoa(int(p))
}

// IsDHCPClient reports whether a port receives nothing but answers, from servers that
// were asked.
func (p Port) IsDHCPClient() bool { return p.Protocol == UDP && (p.Number == 68 || p.Number == 546) }

// String returns the port as a policy names it: "tcp/22", "icmp/echo".
func (p Port) String() string {
	return Service{Protocol: p.Protocol, First: p.Number, Last: p.Number}.String()
}

// Covers reports whether the service includes the port. The zero value includes
// none.
func (s Service) Covers(p Port) bool {
	return s.Protocol == p.Protocol && s.First <= p.Number && p.Number <= s.Last
}

// String returns the service as a policy names it: "tcp/22", "udp/5000-5010",
// "icmp/echo", "esp", "protocol/253". The zero value is "any".
func (s Service) String() string {
	switch {
	case s == Service{}:
		return "any"
	case s.Protocol == ICMP:
		return "icmp/echo"
	case s.Protocol != TCP && s.Protocol != UDP:
		return s.Protocol.String()
	case s.First == s.Last:
		return fmt.Sprintf("%s/%d", s.Protocol, s.First)
	}
	return fmt.Sprintf("%s/%d-%d", s.Protocol, s.First, s.Last)
}

// A use is where a service's text is used. It decides which services are valid,
// and what to advise.
type use int

const (
	forAllow use = iota
	forDoor
	forKnock
	forKeys
)

// forms returns the hint for what can be written.
func (u use) forms() string {
	switch u {
	case forDoor:
		return "write a tcp or udp port, as in 22, tcp/22 or udp/53"
	case forKnock:
		return "write a port, as in 1234, tcp/1234 or udp/4000, or icmp/echo"
	case forKeys:
		return "write a UDP port, as in udp/40123"
	}
	return "write a port or a range, as in tcp/443 or tcp/8000-8099, or one of icmp/echo, " + portless() + ", or a number, as in protocol/253"
}

// ParsePort parses a single port in any form of a knock: "22" (which is TCP),
// "tcp/22", "22/tcp", "22:tcp", "udp/53" or "icmp/echo". The error is a
// *document.Fault.
func ParsePort(text string) (Port, error) { return parsePort(text, forKnock) }

// ParseService parses a port that a door can hide, in the forms of ParsePort
// except icmp/echo. The error is a *document.Fault.
func ParseService(text string) (Port, error) { return parsePort(text, forDoor) }

func parsePort(text string, u use) (Port, error) {
	p, f := port(text, u)
	if f != nil {
		return Port{}, f
	}
	return p, nil
}

// port parses one port; for a knock, also icmp/echo.
func port(text string, u use) (Port, *document.Fault) {
	s, f := service(text, u)
	switch {
	case f != nil:
		return Port{}, f
	case s.Protocol == ICMP && u == forDoor:
		return Port{}, document.NewFault(document.Quoted(text)+" cannot be behind a door", u.forms())
	case s.First != s.Last && u == forKeys:
		return Port{}, document.NewFault(document.Quoted(text)+" is a range of ports", u.forms())
	case s.First != s.Last:
		return Port{}, document.NewFault(document.Quoted(text)+" is a range of ports", fmt.Sprintf("write every port on its own: [%s/%d, %s/%d, …]",
			s.Protocol, s.First, s.Protocol, s.First+1))
	}
	return Port{Protocol: s.Protocol, Number: s.First}, nil
}

// service parses anything that an allow entry can open. For other uses, port
// then accepts only single ports.
func service(text string, u use) (Service, *document.Fault) {
	wrong := func(message, hint string) (Service, *document.Fault) {
		return Service{}, document.NewFault(document.Quoted(text)+" "+message, hint)
	}
	if lower := strings.ToLower(text); lower != text {
		if _, f := service(lower, u); f == nil {
			return wrong("is not understood", "write "+lower)
		}
	}
	name, ports := split(text)
	if name == byNumber && u == forAllow {
		p, f := protocolNumber(ports)
		return Service{Protocol: p}, f
	}
	i := slices.IndexFunc(protocols, func(p namedProtocol) bool { return p.name == name })
	switch {
	case text == "icmp/echo":
		return Service{Protocol: ICMP}, nil
	case slices.Contains([]string{"icmp", "icmpv6", "icmp6", "ping"}, name) && u != forDoor && u != forKeys:
		return wrong("is not understood", "write icmp/echo, which is ping for IPv4 and IPv6")
	case strings.ContainsAny(text, ", "):
		several := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
		return wrong("is not understood", "write several as a list: ["+document.Short(strings.Join(several, ", "))+"]")
	case name == "" && ports != "": // a number alone is a TCP port
		i = 0
	case i < 0:
		return wrong("is not understood", u.forms())
	}
	protocol := protocols[i]
	switch {
	case !protocol.ports && u != forAllow:
		return wrong("is neither tcp nor udp", u.forms())
	case !protocol.ports && ports != "":
		return wrong("names a port, and all of "+protocol.name+" is allowed or nothing", "write "+protocol.name)
	case !protocol.ports:
		return Service{Protocol: protocol.protocol}, nil
	case ports == "" && u == forAllow:
		return wrong("lacks a port", fmt.Sprintf("write a port, as in %s/443, or %s/1-65535 for all", protocol.name, protocol.name))
	case ports == "":
		return wrong("lacks a port", u.forms())
	}
	first, last, isRange := strings.Cut(ports, "-")
	switch {
	case first == "": // a negative number
		return wrong("is out of range", "a port is a number from 1 to 65535")
	case isRange && last == "":
		return wrong("is a range without an end", fmt.Sprintf("write its last port too, as in %s/8000-8099", protocol.name))
	}
	low, f := portNumber(first)
	if f != nil {
		return Service{}, f
	}
	if !isRange {
		return Service{Protocol: protocol.protocol, First: low, Last: low}, nil
	}
	high, f := portNumber(last)
	switch {
	case f != nil:
		return Service{}, f
	case high < low:
		return wrong("is a range that ends before it begins", fmt.Sprintf("write %s/%d-%d", protocol.name, high, low))
	}
	return Service{Protocol: protocol.protocol, First: low, Last: high}, nil
}

// byNumber is how a protocol begins that is written by its number.
const byNumber = "protocol"

// protocolNumber parses the number of a protocol that has no form of its own.
func protocolNumber(text string) (Protocol, *document.Fault) {
	n, f := document.Decimal(text, 1, 255)
	if f != nil {
		f.Message = byNumber + " " + f.Message
		if text == "" {
			f = document.NewFault(document.Quoted(byNumber)+" lacks a number", "write it too, as in protocol/253")
		} else if f.Hint == "" {
			f.Hint = "a protocol is a number from 1 to 255"
		}
		return 0, f
	}
	p := Protocol(n)
	instead := ""
	switch p {
	case ICMP, ICMPv6:
		instead = "write icmp/echo for ping; what a host needs of the rest always passes"
	case TCP, UDP:
		instead = fmt.Sprintf("write %s/1-65535", p)
	default:
		return p, nil
	}
	return 0, document.NewFault(fmt.Sprintf("%s/%d is %s, which cannot be allowed as a whole", byNumber, n, p), instead)
}

// split splits a service's text: "tcp/22", "22/tcp" and "22:tcp" are "tcp" and
// "22"; "22" has no name and "esp" no ports.
func split(text string) (name, ports string) {
	digit := func(s string) bool { return s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') }
	left, right, slash := strings.Cut(text, "/")
	colon := false
	if !slash {
		left, right, colon = strings.Cut(text, ":")
	}
	switch {
	case slices.ContainsFunc(protocols, func(p namedProtocol) bool { return p.name == text }): // "6in4"
		return text, ""
	case !slash && !colon && digit(text):
		return "", text
	case left == "" || right == "": // "esp", or one half of a form that has two
		return text, ""
	case digit(left):
		return right, left
	case slash:
		return left, right
	}
	return text, ""
}

// portNumber parses a TCP or UDP port number.
func portNumber(text string) (uint16, *document.Fault) {
	n, f := document.Decimal(text, 1, 65535)
	if f == nil {
		return uint16(n), nil
	}
	f.Message = "port " + f.Message
	if f.Hint == "" {
		f.Hint = "a port is a number from 1 to 65535"
	}
	return 0, f
}
