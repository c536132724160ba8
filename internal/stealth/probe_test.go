//go:build linux

package stealth

import (
	"slices"
	"strings"
	"testing"

	"postern/internal/lab"
	"postern/internal/packet"
)

// An examiner sends probes over a link and looks at the answers.
type examiner struct {
	*network
	capture *lab.Capture
}

func (n *network) examiner(t *testing.T, k *lab.Link) *examiner {
	t.Helper()
	capture, err := k.Capture(isAnswer)
	if err != nil {
		t.Fatal(err)
	}
	return &examiner{n, capture}
}

// examine sends a probe and returns the shapes of what comes back.
func (e *examiner) examine(t *testing.T, w way, r recipe, protocol packet.Protocol, port uint16) []shape {
	t.Helper()
	p, err := r.make(w, protocol, e.newPort(), port)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	e.send(t, w.link, p.parts...)
	seen, err := e.capture.Drain()
	if err != nil {
		t.Fatal(err)
	}
	var shapes []shape
	for _, c := range seen {
		if !c.Out {
			shapes = append(shapes, shapeOf(p, c.Packet))
		}
	}
	return shapes
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
	comparedTCP = []uint16{22, 8443, 7003, 7002, 7001, 7301, 40001, 1}
	comparedUDP = []uint16{5353, 5354, 7103, 7101, 40001, 1}
)

// services is how many of the compared ports are services.
const services = 2

// TestStealthProbes sends packets that no program would: the ports of services
// and knocks must answer as any other port of the host does, and none may reach a
// service.
func TestStealthProbes(t *testing.T) {
	for _, c := range covers {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, c)
			e := n.examiner(t, n.fromScanner)
			for _, protocol := range []packet.Protocol{packet.ProtocolTCP, packet.ProtocolUDP} {
				recipes, ports := tcpRecipes, comparedTCP
				if protocol == packet.ProtocolUDP {
					recipes, ports = udpRecipes, comparedUDP
				}
				admitted, err := n.gw.Admitted(protocol, func(p *packet.Packet) bool {
					return p.TCP != nil && slices.Contains(ports[:services], p.TCP.DstPort) ||
						p.UDP != nil && slices.Contains(ports[:services], p.UDP.DstPort) ||
						p.TCP == nil && p.UDP == nil
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, w := range ways(n.fromScanner) {
					for _, r := range recipes {
						if !r.fits(w.src) {
							continue
						}
						got := map[string][]uint16{}
						for i, port := range ports {
							answer := words(e.examine(t, w, r, protocol, port))
							got[answer] = append(got[answer], port)
							reached, err := admitted.Drain()
							if err != nil {
								t.Fatal(err)
							}
							if i < services && len(reached) > 0 {
								t.Errorf("%s, %s: it reached the service at %d: %v", w.family(), r.name, port, reached[0])
							}
						}
						if len(got) != 1 {
							t.Errorf("%s, %s: ports do not answer alike:%s", w.family(), r.name, list(got))
						}
					}
				}
				// What would have been seen.
				w := ways(n.fromScanner)[0]
				door, port := "ssh", uint16(22)
				if protocol == packet.ProtocolUDP {
					door, port = "dns", 5353
				}
				n.knock(t, w, door, 3)
				for _, r := range recipes {
					if strings.HasSuffix(r.name, "in parts of 8 and the rest") {
						e.examine(t, w, r, protocol, port)
					}
				}
				if reached, err := admitted.Drain(); err != nil || len(reached) == 0 {
					t.Errorf("a packet in parts does not reach the service in spite of a grant: %v", err)
				}
			}
		})
	}
}
