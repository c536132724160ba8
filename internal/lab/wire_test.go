//go:build linux

package lab_test

import (
	"net/netip"
	"testing"

	"postern/internal/lab"
	"postern/internal/packet"
)

// syn is a SYN to port 22 of the other end.
func syn(src, dst netip.Addr) *packet.Packet {
	return &packet.Packet{Src: src, Dst: dst,
		TCP: &packet.TCP{SrcPort: 40000, DstPort: 22, Seq: 1000, Flags: packet.SYN, Window: 1024}}
}

func bytes(t *testing.T, p *packet.Packet) []byte {
	t.Helper()
	b, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tcpOnly(p *packet.Packet) bool { return p.TCP != nil }

// A hand-made SYN with a foreign source arrives as it was written, is admitted,
// and is answered by the RST of a port with nothing behind it.
func TestSendAndCapture(t *testing.T) {
	l := lab.NewT(t)
	client, gw := l.Host("client"), l.Host("gw")
	atClient, atGW := l.Connect(client, gw, net4, net6)
	gw.Route("203.0.113.0/24", atClient.Addr4())
	gw.Route("2001:db8:f::/64", atClient.Addr6())
	sender, err := atClient.Sender()
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		ctx := soon(t)
		source := netip.MustParseAddr("203.0.113.9")
		if addr(atGW).Is6() {
			source = netip.MustParseAddr("2001:db8:f::9")
		}
		captures := make([]*lab.Capture, 3)
		for i, open := range []func() (*lab.Capture, error){
			func() (*lab.Capture, error) { return atClient.Capture(tcpOnly) },
			func() (*lab.Capture, error) { return atGW.Capture(tcpOnly) },
			func() (*lab.Capture, error) { return gw.Admitted(packet.ProtocolTCP, nil) },
		} {
			var err error
			if captures[i], err = open(); err != nil {
				t.Fatal(err)
			}
			defer captures[i].Close()
		}
		p := syn(source, addr(atGW))
		sent := bytes(t, p)
		if n, err := sender.Send(sent); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		for i, where := range []string{1: "on the wire", 2: "admitted"} {
			if i == 0 {
				continue // a sender's packets pass its own host unseen
			}
			got, err := captures[i].Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Raw) != string(sent) || got.Out {
				t.Errorf("%s: got % x (out: %v), sent % x", where, got.Raw, got.Out, sent)
			}
		}
		want := &packet.TCP{SrcPort: 22, DstPort: 40000, Ack: 1001, Flags: packet.RST | packet.ACK}
		for i, where := range []string{"client", "gateway"} {
			got, err := captures[i].Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if d := packet.Diff(&packet.Packet{TCP: got.TCP}, &packet.Packet{TCP: want}); len(d) > 0 {
				t.Errorf("%s: answered by %s: %v", where, got, d)
			}
			if out := i == 1; got.Out != out {
				t.Errorf("%s: out is %v", where, got.Out)
			}
		}
	})
}
