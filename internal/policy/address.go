package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/internal/document"
)

// address parses the address of one host, of either family.
func address(text string) (netip.Addr, *document.Fault) {
	wrong := func(message, hint string) (netip.Addr, *document.Fault) {
		return netip.Addr{}, document.NewFault(fmt.Sprintf("address %s %s", document.Quoted(text), message), hint)
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil && strings.Contains(text, "/"):
		return wrong("is a network", "write one address, as in 192.0.2.1 or 2001:db8::1")
	case err != nil:
		return wrong("is not an IP address", "write one in numbers, as in 192.0.2.1 or 2001:db8::1")
	case a.Zone() != "":
		return wrong("has a zone", "write it without: "+a.WithZone("").String())
	case a.Is4In6():
		return wrong("is an IPv4 address in IPv6 form", "write "+a.Unmap().String())
	case a.IsUnspecified():
		return wrong("is not the address of a host", "write the address of one host")
	case a.IsLoopback():
		return wrong("is a loopback address, which the network cannot reach", "write an address that others can reach")
	case a.IsMulticast():
		return wrong("is a multicast address, not one host's", "write the address of one host")
	case a == broadcast:
		return wrong("is the broadcast address, not one host's", "write the address of one host")
	}
	return a, nil
}

// unspecified reports whether the text is the address that means any.
func unspecified(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && a.IsUnspecified()
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ParseNetwork parses a network or an address, as a policy has it.
func ParseNetwork(text string) (netip.Prefix, *document.Fault) { return network(text) }

// network parses a source of traffic: a prefix or one address.
func network(text string) (netip.Prefix, *document.Fault) {
	if !strings.Contains(text, "/") {
		a, f := address(text)
		switch {
		case f == nil:
			return netip.PrefixFrom(a, a.BitLen()), nil
		case strings.Contains(text, "-"):
			f.Hint = "write a range as networks, as in [192.0.2.0/25, 192.0.2.128/26]"
		case unspecified(text):
			f.Hint = fmt.Sprintf("write %s/0 to mean every address of its family", document.Short(text))
		case slices.Contains([]string{"any", "all", "everyone", "everywhere", "anywhere", ""}, text):
			f.Hint = "leave it out to mean everyone"
		}
		return netip.Prefix{}, f
	}
	wrong := func(message, hint string) (netip.Prefix, *document.Fault) {
		return netip.Prefix{}, document.NewFault(fmt.Sprintf("network %s %s", document.Quoted(text), message), hint)
	}
	host, bits, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return wrong("has no IP address before the slash", "write it in full, as in 192.0.2.0/24 or 2001:db8::/32")
	}
	if a.Zone() != "" {
		return wrong("has a zone", fmt.Sprintf("write it without: %s/%s", a.WithZone(""), document.Short(bits)))
	}
	length, f := document.Decimal(bits, 0, a.BitLen())
	if f != nil {
		if mask, err := netip.ParseAddr(bits); err == nil && mask.Is4() && a.Is4() {
			return wrong("has a mask", "write it as a prefix length, as in 192.0.2.0/24")
		}
		hint := cmp.Or(f.Hint, fmt.Sprintf("a prefix length is a number from 0 to %d", a.BitLen()))
		if n, err := strconv.Atoi(bits); err == nil && n > a.BitLen() {
			return wrong(fmt.Sprintf("has a prefix length over %d", a.BitLen()), hint)
		}
		return wrong("has no prefix length after the slash", hint)
	}
	p := netip.PrefixFrom(a, length)
	if a.Is4In6() {
		if length >= 96 {
			return wrong("is an IPv4 network in IPv6 form", "write "+netip.PrefixFrom(a.Unmap(), length-96).Masked().String())
		}
		return wrong("is an IPv4 network in IPv6 form", "write it as IPv4, as in 192.0.2.0/24")
	}
	if p.Masked() != p {
		return wrong("has bits set after its first "+strconv.Itoa(length),
			fmt.Sprintf("write %s for the network, or %s for the one address", p.Masked(), a))
	}
	// A network that also contains ordinary addresses is accepted.
	switch {
	case a.IsLoopback() && length >= 8:
		return wrong("is loopback, which is never filtered", "remove it")
	case a.IsMulticast() && length >= 4:
		return wrong("is multicast, which no packet comes from", "remove it")
	}
	return p, nil
}

// endpoint parses an address with a port.
func endpoint(text string) (netip.AddrPort, *document.Fault) {
	const example = "as in 192.168.1.50:443 or \"[2001:db8::50]:443\""
	wrong := func(message, hint string) (netip.AddrPort, *document.Fault) {
		return netip.AddrPort{}, document.NewFault(fmt.Sprintf("forward %s %s", document.Quoted(text), message), hint)
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 || strings.HasSuffix(text, "]") {
		return wrong("has no port", "write address and port, "+example)
	}
	host, number := text[:colon], text[colon+1:]
	inner, open := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if open != closed {
		return wrong("lacks a bracket", "write address and port, "+example)
	}
	if a, err := netip.ParseAddr(text); err == nil { // 2001:db8::50, or a port without brackets
		return wrong("has no port, or no brackets around its address",
			fmt.Sprintf("write \"[%s]:443\", in quotes, for port 443", a))
	}
	if strings.Contains(inner, ":") && !open {
		return wrong("has no brackets around its address", "write address and port, "+example)
	}
	switch a, _ := netip.ParseAddr(inner); {
	case a.IsLinkLocalUnicast(), a.Zone() != "":
		return wrong("is link-local, which nothing is routed to", "write the host's routed address, "+example)
	case a.Is4() && open, a.Is4In6():
		return wrong("is an IPv4 address in IPv6 form", fmt.Sprintf("write %s:%s", a.Unmap(), document.Short(number)))
	}
	a, f := address(inner)
	if f != nil {
		return netip.AddrPort{}, f
	}
	port, f := portNumber(number)
	if f != nil {
		return netip.AddrPort{}, f
	}
	return netip.AddrPortFrom(a, port), nil
}

// family returns the name of an address's family, for a message.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
