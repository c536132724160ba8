package nftables

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/conformance"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

const earlyDoors = "doors: {ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456], step_timeout: 100ms}, open_for: 1h}}\n"

// counted returns what a counter has counted.
func counted(status *firewall.Status, name string) uint64 {
	i := slices.IndexFunc(status.Counters, func(c firewall.Counter) bool { return c.Name == name })
	return status.Counters[i].Packets
}

// scan sends SYNs to ports where nothing is, some at a time.
func (s *scene) scan(from netip.Addr, n int) {
	const atOnce = 25
	for i := 0; i < n; i += atOnce {
		var all []*packet.Packet
		for k := range min(atOnce, n-i) {
			all = append(all, s.ToGateway(from, labtest.TCP(uint16(10000+i+k))))
		}
		s.Send(all...)
		time.Sleep(3 * time.Millisecond) // so long a source may still have progress
	}
	s.Settled()
}

// TestEarlyDropOff: where a policy wants none, or blocked packets are answered, the rules
// know nothing of it.
func TestEarlyDropOff(t *testing.T) {
	for text, want := range map[string]bool{
		labtest.Closed + earlyDoors:                         true,
		labtest.Closed + "early_drop: true\n" + earlyDoors:  true,
		labtest.Closed + "early_drop: false\n" + earlyDoors: false,
		labtest.Closed + "cover: reset\n" + earlyDoors:      false,
		labtest.Guard + "cover: drop\n" + earlyDoors:        false,
	} {
		if got := Compile(labtest.Compile(t, Backend{}, text)).early != nil; got != want {
			t.Errorf("%v, want %v, with\n%s", got, want, text)
		}
	}
}

// TestEarlyDrop: of a scan nearly all is dropped before the rules see it, and counts as
// blocked all the same. Doors open as ever.
func TestEarlyDrop(t *testing.T) {
	conformance.NeedBPF(t)
	t.Parallel()
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		s := newScene(t)
		s.Up(labtest.Closed + earlyDoors)
		status := s.Inspect()
		if status.Early == nil || !slices.Contains(status.Early.Interfaces, s.Gate.Name) {
			t.Fatalf("dropped early: %+v", status.Early)
		}
		before := counted(status, blocked)
		time.Sleep(300 * time.Millisecond) // nobody knows before what sources have done
		const n = 500
		s.scan(labtest.On(s.Outside, f), n)
		status = s.Inspect()
		if status.Early.Packets < n/5 { // or more, if the machine is not too slow for a scan
			t.Errorf("%d packets of %d were dropped early", status.Early.Packets, n)
		}
		if got := counted(status, blocked) - before; got < n || got > n+10 { // and what the host's neighbours say
			t.Errorf("%d packets were blocked, and %d sent", got, n)
		}
		other := s.NewAddress(f)
		s.Knock(other, labtest.TCP(1234), labtest.TCP(2345), labtest.TCP(3456))
		labtest.Greet(t, s.Gateway, 22, "ssh")
		s.Expect(t, other, labtest.TCP(22), labtest.SYNACK, "after the knocks")

		// Who sends whole sequences as fast as they go has no more of them counted than the
		// budget allows.
		guesser, began := s.NewAddress(f), time.Now()
		before, early := counted(s.Inspect(), "door_ssh"), s.Inspect().Early.Packets
		for range 300 {
			s.Knock(guesser, labtest.TCP(1234), labtest.TCP(2345), labtest.TCP(3456))
		}
		status = s.Inspect()
		passed, budget := time.Since(began), automaton.Attempts
		most := uint64(budget.Burst+int(passed.Seconds()*float64(budget.Rate))+1) / 3
		if opened := counted(status, "door_ssh") - before; opened == 0 || opened > most {
			t.Errorf("the guesser has opened the door %d times in %v, and %d are allowed", opened, passed, most)
		}
		if status.Early.Packets == early {
			t.Error("nothing of the guesser's was dropped early")
		}

		down(t, s.Gateway)
	})
}
