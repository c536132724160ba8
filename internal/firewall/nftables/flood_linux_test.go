package nftables

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// A flood sends the same packets over and over from one CPU.
type flood struct {
	sent atomic.Int64
	stop atomic.Bool
	done chan error
	from time.Time
}

// newFlood starts one, of at most rate packets a second; 0 is as many as go.
func (s *scene) newFlood(t *testing.T, cpu, rate int, packets [][]byte) *flood {
	t.Helper()
	sender, err := s.Outside.Sender()
	if err != nil {
		t.Fatal(err)
	}
	f := &flood{done: make(chan error, 1), from: time.Now()}
	const batch = 256
	go func() {
		f.done <- lab.OnCPU(cpu, func() error {
			for at := 0; !f.stop.Load(); at = (at + batch) % len(packets) {
				n, err := sender.Send(packets[at:min(at+batch, len(packets))]...)
				if err != nil {
					return err
				}
				if total := f.sent.Add(int64(n)); rate > 0 {
					time.Sleep(time.Until(f.from.Add(time.Duration(total) * time.Second / time.Duration(rate))))
				}
			}
			return nil
		})
	}()
	return f
}

// end stops the flood and returns its packets per second.
func (f *flood) end(t *testing.T) int {
	t.Helper()
	rate := int(float64(f.sent.Load()) / time.Since(f.from).Seconds())
	f.stop.Store(true)
	if err := <-f.done; err != nil {
		t.Fatal(err)
	}
	return rate
}

// TestKnockDuringFlood: an attacker knows the first port and sends first knocks in
// the name of 131,072 others. Other clients can still knock.
//
// A machine that is busy with other things as well may drop packets before any
// rule sees them, those of the client among them; and a few clients share a bucket of
// the budget with too many others. What fails is tried again, one time in ten at most.
func TestKnockDuringFlood(t *testing.T) {
	const times, pause = 50, 50 * time.Millisecond
	s := newScene(t)
	s.Gateway.Route("198.18.0.0/15", s.Outside.Addr4())
	s.Up(labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456]}}}\n")
	labtest.Greet(t, s.Gateway, 22, "ssh")
	spoofed := netip.MustParsePrefix("198.18.0.0/15")
	var packets [][]byte
	for src := spoofed.Addr(); spoofed.Contains(src); src = src.Next() {
		packets = append(packets, plainSYN(t, src, s.Gate.Addr4(), 1000, 1234))
	}
	all := labtest.CPUs(t)
	f := s.newFlood(t, all[len(all)-1], 100_000, packets)
	// The flood's first round fills the table.
	for deadline := time.Now().Add(30 * time.Second); f.sent.Load() < int64(len(packets)) && time.Now().Before(deadline); {
		time.Sleep(pause)
	}
	in, again := 0, 0
	for in+again < times+times/10 && in < times {
		client := s.NewAddress(labtest.IPv4)
		for _, port := range howtoKnocks {
			s.Knock(client, port)
			time.Sleep(pause)
		}
		if s.Try(client, labtest.TCP(22)) == labtest.SYNACK {
			in++
		} else {
			again++
		}
	}
	t.Logf("%d times in, %d tried again, while %d first knocks a second came from %d addresses", in, again, f.end(t), len(packets))
	if in < times {
		t.Errorf("in %d times of %d", in, times)
	}
	if n := len(s.Inspect().Progress); n < 1000 {
		t.Errorf("the flood left %d sources knocking: it has not arrived", n)
	}
}

// TestReplaceDuringFlood: however many SYNs come to a hidden service while the
// policy changes, none is judged half by the old rules and half by the new.
func TestReplaceDuringFlood(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	labtest.Greet(t, s.Gateway, 22, "ssh")
	const doors = "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n"
	// In guard SYNs to a hidden service are refused last: in the input hook.
	policies := []string{labtest.Guard + doors, labtest.Guard + "allow: [{service: tcp/443}]\n" + doors}
	s.Up(policies[0])
	s.nft("table inet judge {\n\tcounter in { }\n" +
		"\tchain c {\n\t\ttype filter hook input priority 300; tcp dport 22 tcp flags syn counter name in\n\t}\n}\n")
	var floods []*flood
	for i, cpu := range labtest.CPUs(t) {
		var packets [][]byte
		for n := range uint16(1000) {
			src := netip.AddrFrom4([4]byte{198, 51, byte(100 + i), byte(n)})
			packets = append(packets, plainSYN(t, src, s.Gate.Addr4(), 1000+n, 22))
		}
		floods = append(floods, s.newFlood(t, cpu, 0, packets))
	}
	replaced := 0
	for start := time.Now(); time.Since(start) < 5*time.Second; replaced++ {
		s.Up(policies[replaced%2])
	}
	for _, f := range floods {
		t.Logf("%d SYNs a second", f.end(t))
	}
	s.Settled()
	if n := s.counter(t, "in"); n > 0 {
		t.Errorf("%d SYNs got in during %d replacements", n, replaced)
	}
	if replaced < 10 {
		t.Errorf("only %d replacements", replaced)
	}
}
