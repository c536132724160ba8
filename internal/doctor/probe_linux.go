//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"fmt"
	"net/netip"

	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// An answer is what a sender sees of what became of its packet. Answers that differ
// in a header field are different.
type answer string

const (
	silence answer = "no answer"
	synAck  answer = "a SYN-ACK"
	reply   answer = "an echo reply"
)

// A target is an address of the copy, asked from outside by one of its links.
type target struct {
	*replica
	link *copiedLink
	to   netip.Addr
	next uint16 // source port
}

// stranger returns an address that has not sent yet. In IPv6 it is in a /48 of its own,
// which has a budget of its own: see automaton.AttemptPrefix.
func (t *target) stranger(n int) netip.Addr {
	network := t.link.strangers()[0]
	if t.to.Is6() {
		network = t.link.strangers()[1]
	}
	a := network.Addr().AsSlice()
	if t.to.Is6() {
		a[5] = byte(n)
	}
	a[len(a)-1] = byte(n)
	address, _ := netip.AddrFromSlice(a)
	return address
}

// opening returns a packet that would open a connection.
func (t *target) opening(from netip.Addr, port policy.Port) *packet.Packet {
	t.next++
	source := 20000 + t.next%40000
	p := &packet.Packet{Src: from, Dst: t.to}
	switch port.Protocol {
	case policy.TCP:
		p.TCP = &packet.TCP{SrcPort: source, DstPort: port.Number, Seq: 7919 * uint32(t.next), Flags: packet.SYN, Window: 64240}
	case policy.UDP:
		p.UDP, p.Payload = &packet.UDP{SrcPort: source, DstPort: port.Number}, []byte("hello")
	default:
		p.ICMP = &packet.ICMP{Type: packet.EchoRequest, ID: source}
		if t.to.Is6() {
			p.ICMP.Type = packet.EchoRequestV6
		}
	}
	return p
}

// send sends packets in order, from one processor.
func (t *target) send(packets ...*packet.Packet) error {
	raw := make([][]byte, len(packets))
	for i, p := range packets {
		var err error
		if raw[i], err = p.Append(nil); err != nil {
			return err
		}
	}
	cpu, err := firstCPU()
	if err != nil {
		return err
	}
	return lab.OnCPU(cpu, func() error { _, err := t.link.sender.Send(raw...); return err })
}

// ask sends packets and returns what comes back for each.
func (t *target) ask(packets ...*packet.Packet) ([]answer, error) {
	if err := t.forget(); err != nil {
		return nil, err
	}
	if err := t.send(packets...); err != nil {
		return nil, err
	}
	if err := t.Settle(); err != nil {
		return nil, err
	}
	back, err := t.link.wire.Drain()
	if err != nil {
		return nil, err
	}
	type key struct{ here, there uint16 } // ports, or the number of an echo request
	byKey := map[key]int{}
	answers := make([]answer, len(packets))
	for i, p := range packets {
		answers[i] = silence
		byKey[key{here(p), there(p)}] = i
	}
	for _, c := range back {
		if c.Out || !c.Dst.IsValid() {
			continue
		}
		k := key{there(c.Packet), here(c.Packet)}
		if c.ICMP != nil {
			if k = (key{c.ICMP.ID, 0}); c.ICMP.Type != packet.EchoReply && c.ICMP.Type != packet.EchoReplyV6 {
				inner, err := packet.Parse(c.Payload)
				if err != nil {
					continue
				}
				k = key{here(inner), there(inner)}
			}
		}
		if i, ok := byKey[k]; ok && answers[i] == silence && packets[i].Src == c.Dst {
			answers[i] = answerOf(c.Packet)
		}
	}
	return answers, nil
}

// forget drops what came before.
func (t *target) forget() error {
	for i := range t.links {
		if w := t.links[i].wire; w != nil {
			if _, err := w.Drain(); err != nil {
				return err
			}
		}
	}
	_, err := t.in.Drain()
	return err
}

func here(p *packet.Packet) uint16 {
	switch {
	case p.TCP != nil:
		return p.TCP.SrcPort
	case p.UDP != nil:
		return p.UDP.SrcPort
	case p.ICMP != nil:
		return p.ICMP.ID
	}
	return 0
}

func there(p *packet.Packet) uint16 {
	switch {
	case p.TCP != nil:
		return p.TCP.DstPort
	case p.UDP != nil:
		return p.UDP.DstPort
	}
	return 0
}

// answerOf describes an answer, with what a scanner could tell two hosts apart by.
func answerOf(p *packet.Packet) answer {
	shape := fmt.Sprintf("TTL %d", p.TTL)
	if p.Src.Is6() && p.V6.FlowLabel == 0 {
		shape += ", flow label 0"
	}
	switch {
	case p.TCP != nil && p.TCP.Flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK:
		return synAck
	case p.TCP != nil:
		return answer(fmt.Sprintf("a TCP packet with %s (%s, window %d)", p.TCP.Flags, shape, p.TCP.Window))
	case p.ICMP != nil && (p.ICMP.Type == packet.EchoReply && p.Src.Is4() || p.ICMP.Type == packet.EchoReplyV6):
		return reply
	case p.ICMP != nil:
		return answer(fmt.Sprintf("ICMP type %d code %d (%s)", p.ICMP.Type, p.ICMP.Code, shape))
	}
	return "an answer"
}
