//go:build linux

package stealth

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"postern/internal/lab"
	"postern/internal/packet"
)

// A shape is an answer without what must differ from probe to probe: ports and
// sequence numbers are as seen from the probe, identifiers are 0 or 1 for zero
// or not. Two ports cannot be told apart by answers of the same shape.
type shape struct {
	packet packet.Packet
	quote  string // what an ICMP error has of the probe
	way    string // if it is not from where the probe went, to where it came from: how else
}

// shapeOf returns the shape of an answer to a probe, which is whole even if it was
// sent in parts.
func shapeOf(sent probe, answer *packet.Packet) shape {
	p, probe := *answer, sent.whole
	s := shape{}
	if p.Src != probe.Dst {
		s.way = "from " + p.Src.String()
		if p.Src.IsLinkLocalUnicast() {
			s.way = "from a link-local address" // each interface has one of its own
		}
	}
	if p.Dst != probe.Src {
		s.way += " to " + p.Dst.String()
	}
	p.Src, p.Dst = probe.Dst, probe.Dst // their family is all that is left to compare
	p.V4.ID = uint16(some(uint32(p.V4.ID)))
	p.V6.FlowLabel = some(p.V6.FlowLabel)
	if o := p.V4.Options; len(o) > 4 && o[0] == timestamps {
		p.V4.Options = append(slices.Clone(o[:4]), make([]byte, len(o)-4)...) // the time of day
	}
	switch {
	case p.TCP != nil && probe.TCP != nil:
		t := *p.TCP
		t.SrcPort -= probe.TCP.DstPort
		t.DstPort -= probe.TCP.SrcPort
		// 0 if it is 0, and otherwise the distance plus one.
		if t.Seq != 0 {
			t.Seq -= probe.TCP.Ack - 1
		}
		if t.Ack != 0 {
			t.Ack -= probe.TCP.Seq - 1
		}
		// A sum of zero has two forms on the wire, and is chance but for one recipe.
		if t.ChecksumError == 0xffff && sent.name != sumOfZeroName {
			t.ChecksumError = 0
		}
		p.TCP = &t
	case p.ICMP != nil:
		s.quote = quote(sent, p.Payload)
		p.Payload = nil
		p.V4.ID = 0 // a counter, which passes zero now and then
	}
	s.packet = p
	return s
}

// timestamps is the IPv4 option in which each host writes when it was there.
const timestamps = 68

func some(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	return 1
}

// quote returns what of a probe an error quotes: the probe as it was sent, or as
// reassembled.
func quote(p probe, quoted []byte) string {
	bare := *p.whole
	bare.V6.Extensions = slices.DeleteFunc(slices.Clone(bare.V6.Extensions), func(e packet.Extension) bool {
		return e.Header == packet.ProtocolFragment
	})
	names := []string{"the probe", "the probe put together"}
	for i, c := range append([]*packet.Packet{p.whole, &bare}, p.parts...) {
		octets, err := c.Append(nil)
		if err != nil {
			return err.Error()
		}
		if len(quoted) > len(octets) || !bytes.Equal(steady(quoted), steady(octets)[:len(quoted)]) {
			continue
		}
		name := "a part"
		if i < len(names) {
			name = names[i]
		}
		if len(quoted) < len(octets) {
			name = fmt.Sprintf("%d octets of %s", len(quoted), name)
		}
		return name
	}
	return fmt.Sprintf("%d octets, not as sent", len(quoted))
}

// steady clears what differs from port to port in an IPv4 header that was put
// together again, or passed a router: the identifier, checksum and options.
func steady(octets []byte) []byte {
	octets = slices.Clone(octets)
	if len(octets) >= 20 && octets[0]>>4 == 4 {
		clear(octets[4:8])
		clear(octets[10:12])
		clear(octets[20:min(len(octets), int(octets[0]&15)*4)])
	}
	return octets
}

// differences returns the fields in which two answers differ, b's value second.
func differences(a, b shape) []packet.Difference {
	found := packet.Diff(&a.packet, &b.packet)
	if a.quote != b.quote {
		found = append(found, packet.Difference{Field: "quote", A: a.quote, B: b.quote})
	}
	if a.way != b.way {
		found = append(found, packet.Difference{Field: "way", A: a.way, B: b.way})
	}
	return found
}

// String writes the fields that are not empty.
func (s shape) String() string {
	var parts []string
	for _, d := range differences(shape{}, s) {
		if d.Field != "Src" && d.Field != "Dst" {
			parts = append(parts, d.Field+" "+d.B)
		}
	}
	return strings.Join(parts, ", ")
}

// isAnswer keeps what a host answers with, and leaves out its neighbour
// discovery (RFC 4861) and multicast listeners' reports (RFC 3810).
func isAnswer(p *packet.Packet) bool {
	return p.ICMP == nil || p.Src.Is4() || !slices.Contains([]uint8{130, 131, 132, 133, 134, 135, 136, 137, 143}, p.ICMP.Type)
}

// pair is a probe's ports, by which its answers are found.
type pair struct{ ours, theirs uint16 }

// pairOf returns the ports of a probe, of an answer to it, or of the packet quoted
// in an ICMP error.
func pairOf(c lab.Captured) (pair, bool) {
	p := c.Packet
	if p.ICMP != nil {
		// An error quotes a whole header, of a fixed length in what nmap sends.
		at := 20
		if p.Src.Is6() {
			at = 40
		}
		if len(p.Payload) < at+4 {
			return pair{}, false
		}
		q := p.Payload[at:]
		return pair{binary.BigEndian.Uint16(q), binary.BigEndian.Uint16(q[2:])}, true
	}
	var from, to uint16
	switch {
	case p.TCP != nil:
		from, to = p.TCP.SrcPort, p.TCP.DstPort
	case p.UDP != nil:
		from, to = p.UDP.SrcPort, p.UDP.DstPort
	default:
		return pair{}, false
	}
	if c.Out {
		return pair{from, to}, true
	}
	return pair{to, from}, true
}

// flagNames are the flags as a recipe names them.
var flagNames = map[string]packet.TCPFlags{
	"FIN": packet.FIN, "SYN": packet.SYN, "RST": packet.RST, "PSH": packet.PSH, "ACK": packet.ACK,
	"URG": packet.URG, "ECE": packet.ECE, "CWR": packet.CWR, "AE": packet.AE,
}

func parseFlags(names string) packet.TCPFlags {
	var flags packet.TCPFlags
	for name := range strings.SplitSeq(names, "+") {
		flags |= flagNames[name]
	}
	return flags
}
