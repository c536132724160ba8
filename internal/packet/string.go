package packet

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String returns the packet on one line, for the log of a failed test.
func (p *Packet) String() string {
	var s strings.Builder
	port := func(a netip.Addr, n uint16) string { return netip.AddrPortFrom(a, n).String() }
	switch {
	case p.TCP != nil:
		t := p.TCP
		fmt.Fprintf(&s, "%s > %s tcp %s seq %d ack %d win %d", port(p.Src, t.SrcPort),
			port(p.Dst, t.DstPort), t.Flags, t.Seq, t.Ack, t.Window)
	case p.UDP != nil:
		fmt.Fprintf(&s, "%s > %s udp", port(p.Src, p.UDP.SrcPort), port(p.Dst, p.UDP.DstPort))
	case p.ICMP != nil:
		fmt.Fprintf(&s, "%s > %s %s type %d code %d id %d seq %d", p.Src, p.Dst,
			p.protocol(), p.ICMP.Type, p.ICMP.Code, p.ICMP.ID, p.ICMP.Seq)
	default:
		fmt.Fprintf(&s, "%s > %s %s", p.Src, p.Dst, p.Protocol)
	}
	if p.IsFragment() {
		s.WriteString(" fragment")
	}
	if len(p.Payload) > 0 {
		fmt.Fprintf(&s, " +%d octets", len(p.Payload))
	}
	return s.String()
}

// String returns the name of the protocol, or its number if it has no name
// here.
func (p Protocol) String() string {
	switch p {
	case ProtocolICMP:
		return "icmp"
	case ProtocolTCP:
		return "tcp"
	case ProtocolUDP:
		return "udp"
	case ProtocolICMPv6:
		return "icmpv6"
	}
	return "protocol " + strconv.Itoa(int(p))
}

// String returns the flags as tcpdump prints them: a letter each in brackets,
// with a dot for ACK.
func (f TCPFlags) String() string {
	s := []byte{'['}
	for i, letter := range "FSRP.UEWe" {
		if f&(1<<i) != 0 {
			s = append(s, byte(letter))
		}
	}
	if f>>9 != 0 {
		s = append(s, '?') // reserved bits
	}
	return string(append(s, ']'))
}
