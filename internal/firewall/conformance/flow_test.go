package conformance

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/packet"
)

// rules is a backend that loads the same rules for every machine.
type rules struct {
	firewall.Backend
	text string
}

func (r rules) Apply(*automaton.Machine) error {
	load := exec.Command("nft", "-f", "-")
	load.Stdin = strings.NewReader("table inet known\ndelete table inet known\n" + r.text)
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w\n%s", err, out)
	}
	return nil
}

// TestFlows proves that connection tracking knows the flows that the model says
// it knows: it lets in packets of all kinds, and then only those of known flows.
func TestFlows(t *testing.T) {
	const everyone = "table inet known { chain input { type filter hook input priority filter; ct state invalid counter; accept; }; }"
	only := func(match string) string {
		return "table inet known { chain input { type filter hook input priority filter; policy drop; meta l4proto ipv6-icmp icmpv6 type != echo-request accept; " +
			match + " accept; }; }"
	}
	packets := []probe{}
	for i, port := range ports([]string{"22", "udp/53", "icmp/echo"}) {
		for _, v6 := range []bool{false, true} {
			for k, flags := range append([]packet.TCPFlags{packet.SYN, packet.SYN | packet.ECE | packet.CWR}, bare...) {
				s := probe{src: block(1).addr(v6, 0, 1), dst: servers4[0], port: port, sport: uint16(3000 + 100*i + k), seq: 7, flags: flags, link: k % 2}
				if v6 {
					s.dst = servers6[0]
				}
				packets = append(packets, s)
			}
		}
	}
	for name, test := range map[string]struct {
		known automaton.Known
		match string
	}{
		"confirmed": {automaton.Confirmed, "ct status confirmed"},
		"answered":  {automaton.Answered, "ct state established,related"},
	} {
		t.Run(name, func(t *testing.T) {
			o := modelOf(t, automaton.Parameters{Known: test.known}, "", modelPolicy)
			w, err := newTestbed(rules{text: everyone}, newKeyring())
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			send := func(probes []probe) (passed []bool) {
				t.Helper()
				var first uint32
				err := w.onCPU(func() (err error) {
					first, _, err = w.send(time.Now(), probes)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				seen, err := w.drain()
				if err != nil {
					t.Fatal(err)
				}
				for i := range probes {
					_, in := seen[first+uint32(i)]
					passed = append(passed, in)
				}
				return passed
			}
			if err := w.apply(o.machine); err != nil {
				t.Fatal(err)
			}
			for i, in := range send(packets) {
				if !in {
					t.Fatalf("%s did not arrive", packets[i])
				}
			}
			w.backend = rules{text: only(test.match)}
			if err := w.apply(o.machine); err != nil {
				t.Fatal(err)
			}
			// Each again, on the other cable, and then with other flags.
			var again []probe
			for _, flags := range []packet.TCPFlags{packet.ACK, packet.SYN, packet.PSH | packet.ACK, packet.SYN} {
				for _, s := range packets {
					s.link, s.seq = 1-s.link, s.seq+1
					s.flags = flags
					again = append(again, s)
				}
			}
			known := 0
			for i, in := range send(again) {
				if want := o.startsFlow(packets[i%len(packets)]); in != want {
					t.Errorf("%s, after %s: let in %t, want %t", again[i], packets[i%len(packets)], in, want)
				}
				if in {
					known++
				}
			}
			if known == 0 || known == len(again) {
				t.Errorf("%d of %d are of known flows, which proves nothing", known, len(again))
			}
		})
	}
}
