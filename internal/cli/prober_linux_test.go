package cli

import (
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/packet"
)

// proberAddress is an address of the client's that nobody knocks from: probes would
// spoil the knocks, and take what they earn.
var proberAddress = netip.MustParseAddr("192.0.2.99")

// A prober asks for a hidden port a thousand times a second, from the client's host.
type prober struct {
	h       *hideout
	port    uint16
	sender  *lab.Sender
	answers *lab.Capture // that only an open port gives
	sent    int
	stop    chan struct{}
	ended   chan error
}

// probe starts a prober for a port of the server's.
func (h *hideout) probe(t *testing.T, port uint16) *prober {
	t.Helper()
	p := &prober{h: h, port: port, stop: make(chan struct{}), ended: make(chan error, 1)}
	h.onClient(t, "ip", "address", "add", proberAddress.String()+"/24", "dev", h.from.Name)
	var err error
	if p.sender, err = h.from.Sender(); err != nil {
		t.Fatal(err)
	}
	if p.answers, err = h.from.Capture(func(c *packet.Packet) bool {
		return c.Src == h.at.Addr4() && c.Dst == proberAddress && c.TCP != nil && c.TCP.SrcPort == port && c.TCP.Flags == packet.SYN|packet.ACK
	}); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.run() }()
	return p
}

func (p *prober) run() error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return nil
		case <-tick.C:
		}
		syn := packet.Packet{Src: proberAddress, Dst: p.h.at.Addr4(), TCP: &packet.TCP{
			SrcPort: uint16(20000 + p.sent%40000), DstPort: p.port, Seq: uint32(p.sent) * 1000, Flags: packet.SYN, Window: 64240,
		}}
		raw, err := syn.Append(nil)
		if err != nil {
			return err
		}
		if _, err := p.sender.Send(raw); err != nil {
			return err
		}
		p.sent++
	}
}

// shut ends the prober, and fails the test if the port was ever open.
func (p *prober) shut(t *testing.T) {
	t.Helper()
	close(p.stop)
	if err := <-p.ended; err != nil {
		t.Fatal(err)
	}
	if err := p.h.lab.Settle(); err != nil {
		t.Fatal(err)
	}
	open, err := p.answers.Drain()
	if err != nil {
		t.Fatal(err)
	}
	if len(open) > 0 {
		t.Errorf("%d of %d probes found the hidden port open, the first at %v", len(open), p.sent, open[0].Time)
	}
	t.Logf("%d probes", p.sent)
}

// onClient runs a program on the client.
func (h *hideout) onClient(t *testing.T, words ...string) {
	t.Helper()
	if out, err := h.client.Command(within(t, soon), words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q on the client: %v\n%s", words, err, out)
	}
}
