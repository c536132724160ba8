//go:build linux

package stealth

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/firewall/backends"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// An examiner sends probes to a host over one link and looks at the answers on two.
type examiner struct {
	*network
	captures map[string]*lab.Capture // by what an answer there is called
}

func (n *network) examiner(t *testing.T, asked, beside *lab.Link) *examiner {
	t.Helper()
	e := &examiner{n, map[string]*lab.Capture{}}
	for name, k := range map[string]*lab.Link{"": asked, " on another interface": beside} {
		var err error
		if e.captures[name], err = k.Capture(isAnswer); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// examine sends the probe of each recipe that fits, all at once, and returns the shapes of
// what comes back, by the recipes' names.
func (e *examiner) examine(t *testing.T, w way, recipes []recipe, protocol packet.Protocol, port uint16) map[string][]shape {
	t.Helper()
	shapes := map[string][]shape{}
	sent := map[uint16]probe{}
	packets := map[bool][]*packet.Packet{} // by whether in frames to everyone
	first := e.newPorts(len(recipes))
	for i, r := range recipes {
		if !r.fits(w, e.site) {
			continue
		}
		p, err := r.make(w, protocol, first+uint16(i), port)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		if _, ok := shapes[r.name]; ok {
			t.Fatalf("two recipes are called %q", r.name)
		}
		shapes[r.name] = nil
		sent[p.from] = p
		if p.whole.TCP != nil && p.whole.TCP.SrcPort == 0 || p.whole.UDP != nil && p.whole.UDP.SrcPort == 0 {
			sent[0] = p
		}
		packets[r.broadcast] = append(packets[r.broadcast], p.parts...)
	}
	for _, capture := range e.captures {
		drain(t, capture) // of others' packets
	}
	// The kernel sends ICMP by one socket for each processor, which all hosts share, and
	// drops errors when too many of them wait to be received.
	for broadcast, packets := range packets {
		for some := range slices.Chunk(packets, 32) {
			if slices.ContainsFunc(some, isStamped) {
				time.Sleep(untilSteady(time.Now()))
			}
			e.send(t, senderOf{w.link, broadcast}, some...)
		}
	}
	for where, capture := range e.captures {
		for _, c := range drain(t, capture) {
			if c.Out {
				continue
			}
			from := askedFrom(c.Packet)
			p, ok := sent[from]
			if !ok || from == 0 && c.ICMP != nil {
				// The hosts beyond have answers of their own to what was passed on.
				if passedOn := c.V4.ID|uint16(c.V6.FlowLabel) != 0; !passedOn && from != 0 {
					t.Errorf("an answer to nothing%s: %v", where, c.Packet)
				}
				continue
			}
			s := shapeOf(p, c.Packet)
			s.way += where
			shapes[p.name] = append(shapes[p.name], s)
		}
	}
	return shapes
}

// askedFrom returns the number of the probe that a packet answers. That is 0 for a probe
// from port 0, whose answer goes there, and for what is no answer.
func askedFrom(answer *packet.Packet) uint16 {
	switch q := answer.Payload; {
	case answer.TCP != nil:
		return answer.TCP.DstPort
	case answer.UDP != nil:
		return answer.UDP.DstPort
	case answer.ICMP != nil && len(q) >= 20 && q[0]>>4 == 4:
		return binary.BigEndian.Uint16(q[4:])
	case answer.ICMP != nil && len(q) >= 40:
		return binary.BigEndian.Uint16(q[2:])
	}
	return 0
}

// words writes the answers to one probe.
func words(shapes []shape) string {
	if len(shapes) == 0 {
		return "no answer"
	}
	var all []string
	for _, s := range shapes {
		all = append(all, s.String())
	}
	return strings.Join(all, "; and ")
}

// The ports that are compared: services' come first, then those of knocks (in no
// order that opens a door), then ones that mean nothing.
var (
	comparedTCP = []uint16{22, 8443, 8080, 8081, 7003, 7001, 7700, 40001}
	comparedUDP = []uint16{5353, 5354, 8082, 7103, 7101, 7700, 40001}
)

// services is how many of the compared ports are services.
var services = map[packet.Protocol]int{packet.ProtocolTCP: 4, packet.ProtocolUDP: 3}

// hiddenAt are the addresses at which ports are hidden; those that are not here are at all.
var hiddenAt = map[uint16]netip.Prefix{
	8443: netip.MustParsePrefix("0.0.0.0/0"), 5354: netip.MustParsePrefix("0.0.0.0/0"), 8080: netip.MustParsePrefix("192.0.2.2/32"),
	8081: netip.MustParsePrefix("2001:db8:1::2/128"), 8082: netip.MustParsePrefix("2001:db8:1::2/128"),
}

// TestStealthProbes sends packets that no program would: the ports of services
// and knocks must answer as any other port of the host does, and none may reach a
// service.
func TestStealthProbes(t *testing.T) {
	guards := []cover{}
	for _, b := range backends.All() {
		for _, answer := range []policy.Cover{policy.CoverDrop, policy.CoverUnreachable} {
			guards = append(guards, cover{policy.Guard, answer, b})
		}
	}
	for _, c := range slices.Concat(covers, guards) {
		for _, at := range sitesOf(c) {
			t.Run(c.String()+"/"+at.String(), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, c, at)
				e := n.examiner(t, n.fromScanner, n.fromFriend)
				for _, protocol := range []packet.Protocol{packet.ProtocolTCP, packet.ProtocolUDP} {
					e.compare(t, c, protocol)
				}
				for _, counter := range labtest.Inspect(t, n.gw, n.backend).Counters {
					if counter.Name == "key_keyed" && counter.Packets == 0 {
						t.Error("no token was right")
					}
				}
			})
		}
	}
}

// compare sends all probes of a protocol to all ports to be compared.
func (e *examiner) compare(t *testing.T, c cover, protocol packet.Protocol) {
	t.Helper()
	recipes, ports := tcpRecipes, comparedTCP
	if protocol == packet.ProtocolUDP {
		recipes, ports = udpRecipes, comparedUDP
	}
	admitted, err := e.gw.Admitted(protocol, func(p *packet.Packet) bool {
		var to uint16
		switch {
		case p.TCP != nil:
			to = p.TCP.DstPort
		case p.UDP != nil:
			to = p.UDP.DstPort
		default:
			return true
		}
		if hidden, ok := hiddenAt[to]; ok {
			return hidden.Contains(p.Dst)
		}
		return slices.Contains(ports[:services[protocol]], to)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ways(e.fromScanner) {
		answers := make([]map[string][]shape, len(ports))
		for i, port := range ports {
			answers[i] = e.examine(t, w, recipes, protocol, port)
			at, some := hiddenAt[port]
			for _, p := range drain(t, admitted) {
				whole := p.TCP != nil || p.UDP != nil
				if i < services[protocol] && (whole || !some || at.Contains(w.dst)) {
					t.Errorf("%s: a probe reached the service at %d: %v", w.family(), port, p.Packet)
				}
			}
		}
		for _, group := range alike(c, w, ports) {
			for _, r := range recipes {
				byAnswer := func() map[string][]uint16 {
					got := map[string][]uint16{}
					for _, i := range group {
						answer := words(answers[i][r.name])
						got[answer] = append(got[answer], ports[i])
					}
					return got
				}
				if len(byAnswer()) <= 1 {
					continue
				}
				if got := byAnswer(); len(got) > 1 {
					t.Errorf("%s, %s: ports do not answer alike:%s", w.family(), r.name, list(got))
				}
			}
		}
		if c.answer.Answers() {
			continue
		}
		for name, shapes := range answers[0] { // the first one is hidden at all addresses
			for _, s := range shapes {
				if p := s.packet; !strings.Contains(name, "to a host behind") && (p.TCP != nil || labtest.AnswerTo(&p, &p) == labtest.Unreachable) {
					t.Errorf("%s, %s: it was answered: %s", w.family(), name, s)
				}
			}
		}
	}
	// What would have been seen.
	w := ways(e.fromScanner)[0]
	door, port := "ssh", uint16(22)
	if protocol == packet.ProtocolUDP {
		door, port = "dns", 5353
	}
	e.knock(t, w, door, 3)
	e.examine(t, w, slices.DeleteFunc(slices.Clone(recipes), func(r recipe) bool {
		return !strings.HasSuffix(r.name, "in parts of 8 and the rest")
	}), protocol, port)
	if len(drain(t, admitted)) == 0 {
		t.Error("a packet in parts does not reach the service in spite of a grant")
	}
}

// alike returns which of the ports must answer alike, as indices. Where guard has a cover that
// does not look idle, what is hidden must look like what else is, and the rest like the rest.
func alike(c cover, w way, ports []uint16) [][]int {
	var all, hidden, others []int
	for i, port := range ports {
		all = append(all, i)
		at, some := hiddenAt[port]
		switch {
		case port == 22 || port == 5353 || some && at.Bits() == 0 && w.src.Is4():
			hidden = append(hidden, i)
		case !some:
			others = append(others, i)
		}
	}
	if c.posture == policy.Closed || c.answer.LooksIdle() {
		return [][]int{all}
	}
	return [][]int{hidden, others}
}

func drain(t *testing.T, c *lab.Capture) []lab.Captured {
	t.Helper()
	got, err := c.Drain()
	if err != nil {
		t.Fatal(err)
	}
	return got
}
