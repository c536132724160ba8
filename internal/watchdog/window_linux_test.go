package watchdog

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	nft "github.com/google/nftables"

	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
	"postern/internal/firewall/nftables"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

var (
	flushes = flag.Int("flushes", 12, "how many flushes the watchdog is measured at")
	rate    = flag.Int("probes", 10, "how many SYNs a millisecond look for an open port")
)

// TestWindow flushes all rules, again and again, while a prober sends SYNs to a hidden
// port, and measures from the first that is answered to the last: for so long the port
// was open. The window closes each time; how long it was is printed.
//
//	go test ./internal/watchdog -run TestWindow -v -flushes 1000
func TestWindow(t *testing.T) {
	for name, test := range map[string]struct {
		backend firewall.Backend
		flush   func(s *scene)
	}{
		"nftables":        {nftables.Backend{}, flushRuleset},
		"iptables-nft":    {iptables.Backend{Variant: "nft"}, func(s *scene) { s.run("iptables-nft", "-F") }},
		"iptables-legacy": {iptables.Backend{Variant: "legacy"}, func(s *scene) { s.run("iptables-legacy", "-F") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, test.backend)
			s.up(hidden22)
			s.watch(true)
			var open, after []time.Duration
			answered := 0
			for range *flushes {
				w := s.window(func() { test.flush(s) })
				open, after = append(open, w.open), append(after, w.after)
				answered += w.answered
			}
			if s.said.count("tried again") > 0 {
				// iptables-legacy may have to wait for another's lock for too long.
				t.Log("it failed, and then did not:\n" + s.said.String())
			}
			if answered == 0 {
				t.Error("no flush opened anything: nothing was measured")
			}
			t.Logf("%s: %d flushes, %d probes a ms: open for %s; once the flush was over for %s; %d probes answered, and then none",
				name, *flushes, *rate, spread(open), spread(after), answered)
		})
	}
}

// spread says how long something takes.
func spread(all []time.Duration) string {
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return all[int(share*float64(len(all)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%v (median), %v (99 %%), %v (longest)", at(0.5), at(0.99), at(1))
}

// flushRuleset is "nft flush ruleset", from this process.
func flushRuleset(s *scene) {
	s.T.Helper()
	err := s.Gateway.Do(func() error {
		var c nft.Conn
		c.FlushRuleset()
		return c.Flush()
	})
	if err != nil {
		s.T.Fatal(err)
	}
}

// A window is the time in which probes were answered.
type window struct {
	open     time.Duration
	after    time.Duration // of that, once what opened it had ended
	answered int
}

// window probes the hidden port while something opens it, until it has been shut for
// a while.
func (s *scene) window(open func()) window {
	s.T.Helper()
	const (
		before = 2 * time.Millisecond
		shut   = 30 * time.Millisecond // for so long after the last answer
		most   = 30 * time.Second
	)
	if _, err := s.Wire.Drain(); err != nil {
		s.T.Fatal(err)
	}
	src := s.NewAddress(labtest.IPv4)
	probe := s.ToGateway(src, labtest.TCP(22))
	sent := map[uint16]time.Time{}
	var first, last time.Time
	answered := 0
	look := func() {
		got, err := s.Wire.Drain()
		if err != nil {
			s.T.Fatal(err)
		}
		for _, c := range got {
			if c.Out || c.TCP == nil || c.Dst != src || c.TCP.SrcPort != 22 {
				continue
			}
			at := sent[c.TCP.DstPort]
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
			answered++
		}
	}
	opened := make(chan time.Time, 1)
	var since time.Time // the flush began, or ended
	over := false
	err := lab.OnCPU(s.CPU, func() error {
		start := time.Now()
		for next := start; ; next = next.Add(time.Millisecond / time.Duration(*rate)) {
			if late := time.Since(next); late > time.Millisecond {
				next = time.Now() // this machine is busy: no burst follows
			}
			for time.Now().Before(next) {
			}
			now := time.Now()
			if since.IsZero() && now.Sub(start) > before {
				since = now
				go func() { open(); opened <- time.Now() }()
			}
			select {
			case since = <-opened:
				over = true
			default:
			}
			probe.TCP.SrcPort++
			if probe.TCP.SrcPort < 1024 {
				probe.TCP.SrcPort = 1024
			}
			sent[probe.TCP.SrcPort] = now
			raw, err := probe.Append(nil)
			if err == nil {
				_, err = s.Sender.Send(raw)
			}
			if err != nil {
				return err
			}
			if len(sent)%16 == 0 {
				look()
			}
			quiet := now.Sub(last)
			if over && now.Sub(since) > shut && quiet > shut {
				return nil
			}
			if now.Sub(start) > most {
				return fmt.Errorf("open for %v", now.Sub(first))
			}
		}
	})
	if err != nil {
		s.T.Fatal(err)
	}
	s.Settled()
	look()
	if answered == 0 {
		return window{}
	}
	between := time.Millisecond / time.Duration(*rate)
	return window{last.Sub(first) + between, max(0, last.Sub(since)+between), answered}
}
