package nftables

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// TestDoorTakesItsGrants: a door that goes takes along what it granted, and
// nothing else, also where another door opens the same service.
func TestDoorTakesItsGrants(t *testing.T) {
	t.Parallel()
	const (
		alice = "  alice: {service: [tcp/22, udp/53], knock: {sequence: [1, 2]}, open_for: 5m}\n"
		bob   = "  bob: {service: tcp/22, knock: {sequence: [1, 3]}, open_for: 4m}\n"
		web   = "  web: {service: tcp/80, knock: {sequence: [1, 4]}, open_for: 5m, admit: any}\n"
	)
	s := newScene(t)
	for _, port := range []uint16{22, 80} {
		labtest.Greet(t, s.Gateway, port, "hello")
	}
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		s.Up(labtest.Closed + "doors:\n" + web + alice + bob)
		ofAlice, ofBob, ofBoth, ofWeb := s.NewAddress(f), s.NewAddress(f), s.NewAddress(f), s.NewAddress(f)
		s.Knock(ofAlice, labtest.TCP(1), labtest.TCP(2))
		s.Knock(ofBob, labtest.TCP(1), labtest.TCP(3))
		s.Knock(ofBoth, labtest.TCP(1), labtest.TCP(2), labtest.TCP(1), labtest.TCP(3))
		s.Knock(ofWeb, labtest.TCP(1), labtest.TCP(4))
		s.Settled()

		s.Up(labtest.Closed + "doors:\n" + bob + web)
		s.Expect(t, ofAlice, labtest.TCP(22), labtest.Silence, "a grant of a door that is gone")
		s.Expect(t, ofBob, labtest.TCP(22), labtest.SYNACK, "a grant of the other door")
		s.Expect(t, ofBob, labtest.TCP(22), labtest.Silence, "a second connection")
		s.Expect(t, ofBoth, labtest.TCP(22), labtest.SYNACK, "grants of both doors, of which one is gone")
		s.Expect(t, ofBoth, labtest.TCP(22), labtest.Silence, "the one that is gone")
		s.Expect(t, ofWeb, labtest.TCP(80), labtest.SYNACK, "a grant of another service")

		s.Up(labtest.Closed + "doors:\n" + alice + web)
		s.Expect(t, ofBoth, labtest.TCP(22), labtest.SYNACK, "a grant whose door is back within its time")
		s.Expect(t, ofAlice, labtest.TCP(22), labtest.SYNACK, "another one")
		s.Expect(t, ofAlice, labtest.TCP(22), labtest.Silence, "a second connection")
		s.Expect(t, ofWeb, labtest.TCP(80), labtest.SYNACK, "a grant of another service")
	})
}

// TestApplyReadsNoGrants: Apply asks the kernel for nothing that packets have put
// into sets, whatever changes, and Inspect does not either: `up` calls both. They
// would need minutes for what a million sources hold. What they read must go
// through memory, so that is what is measured.
func TestApplyReadsNoGrants(t *testing.T) {
	h := lab.NewT(t).Host("host")
	const door = labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}, open_for: 1h"
	machines := []*automaton.Machine{
		labtest.Compile(t, Backend{}, door+"}}\n"),
		labtest.Compile(t, Backend{}, door+", from: 192.0.2.0/24}}\n"),
	}
	// replace returns how much memory two replacements allocate, at the least:
	// the runtime allocates, too.
	replace := func() uint64 {
		least := ^uint64(0)
		for range 3 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for _, m := range machines {
				if err := h.Do(func() error {
					if _, err := (Backend{}).Inspect(); err != nil {
						return err
					}
					return Backend{}.Apply(m)
				}); err != nil {
					t.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		return least
	}
	replace()
	without := replace()
	const sources, least = 20_000, 50 // octets that a source takes in the kernel's answer, at the least
	var grants, progress []entry
	for i := range sources {
		a := addrPart(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		grants = append(grants, entry{element: elementOf(a, idPart(uint32(machines[0].Grants[0].ID))), expire: time.Hour})
		progress = append(progress, entry{element: elementOf(a).to(uint32(machines[0].States[0].ID)), expire: time.Hour})
	}
	if err := h.Do(func() error {
		var b batch
		b.addElements("once4", grants)
		b.addElements("at4", progress)
		return b.commit(nil, 0)
	}); err != nil {
		t.Fatal(err)
	}
	if with := replace(); with > without+sources*least {
		t.Errorf("with %d grants, inspecting and replacing rules allocates %d octets; without, %d", sources, with, without)
	}
	status := labtest.Inspect(t, h, Backend{})
	if len(status.Grants) < maxDump || len(status.Progress) < maxDump {
		t.Errorf("%d grants and %d sources with progress are left", len(status.Grants), len(status.Progress))
	}
}
