//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// All traffic is sent to every rule set, and each stands in the tables.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	p := &plan{rounds: 1, packets: 50, lasts: time.Millisecond, subjects: subjects("", small, io.Discard), traffic: allKinds}
	if err := p.run(t.Context(), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.subjects {
		if strings.Count(out.String(), s.name+" ") < 2 {
			t.Errorf("%s is not in both tables:\n%s", s, out.String())
		}
	}
}

// The tables of progress are filled, for each family.
func TestMemory(t *testing.T) {
	var out bytes.Buffer
	if err := memory(t.Context(), 1000, time.Millisecond, &out); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), " 1000 sources") != 2 {
		t.Error(out.String())
	}
}

// What is measured is what it is called: rules that answer do so, and no others.
func TestAnswers(t *testing.T) {
	l := lab.New()
	defer l.Close()
	const n = 200
	for i, s := range subjects("", small, io.Discard) {
		if s.name == "closed unreachable" {
			continue // the kernel sends few ICMP errors a second
		}
		st, err := newStand(t.Context(), l, fmt.Sprint(i), s)
		if err != nil {
			t.Fatal(err)
		}
		answers := strings.Contains(s.name, "guard") || strings.Contains(s.name, "reset") || s.name == "plain, reject" || s.name == "plain, open"
		for _, w := range []*workload{scan, named(t, "knock"), named(t, "ack"), named(t, "scan6"), named(t, "knock6")} {
			before := sentBy(t, st.to)
			if _, err := st.burst(stopwatch{dayTime}, w, n); err != nil {
				t.Fatal(err)
			}
			got := sentBy(t, st.to) - before
			// The hidden port may have another answer than the rest.
			if answers && got < n*9/10 || !answers && got > n/10 {
				t.Errorf("%s: %s: %d answers to %d packets", s, w.name, got, n)
			}
		}
	}
}

// Tokens are what they are called, to the program in the kernel.
func TestTokens(t *testing.T) {
	if err := bpf.Probe(); err != nil {
		t.Skip(err) // an old kernel, or no root of the machine
	}
	l := lab.New()
	defer l.Close()
	const n = 100
	for i, s := range subjects("", small, io.Discard) {
		if !s.keys {
			continue
		}
		st, err := newStand(t.Context(), l, fmt.Sprint(i), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, sent := range []struct {
			traffic string
			n       int
			as      key.Refusal
		}{
			{"token", n, 0}, {"junk", n, key.UnknownDevice}, {"forged", n, key.Forged}, {"token", 1, 0}, {"replay", n, key.Replayed},
		} {
			before := countsOf(t, st.to.Host)
			if _, err := st.burst(stopwatch{dayTime}, named(t, sent.traffic), sent.n); err != nil {
				t.Fatal(err)
			}
			after := countsOf(t, st.to.Host)
			for as := range after {
				want := uint64(0)
				if key.Refusal(as) == sent.as {
					want = uint64(sent.n)
				}
				if got := after[as] - before[as]; got != want {
					t.Errorf("%s: %d of %s: %d counted as %d, want %d", s, sent.n, sent.traffic, got, as, want)
				}
			}
		}
	}
}

// countsOf returns what the program on a host has counted.
func countsOf(t *testing.T, h *lab.Host) (c bpf.Counts) {
	if err := h.Do(func() error {
		running, err := bpf.Find()
		if err != nil {
			return err
		}
		defer running.Close()
		c, err = running.Counts()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

func named(t *testing.T, name string) *workload {
	found, err := chooseTraffic(name)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

// sentBy returns how many packets a host has sent on a link.
func sentBy(t *testing.T, k *lab.Link) int {
	h, err := netlink.NewHandleAt(netns.NsHandle(k.Host.NetNS()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	link, err := h.LinkByName(k.Name)
	if err != nil {
		t.Fatal(err)
	}
	return int(link.Attrs().Statistics.TxPackets)
}
