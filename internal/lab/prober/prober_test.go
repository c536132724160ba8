//go:build linux

package prober_test

import (
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/lab/prober"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// Probes of a port where nothing listens are refused; once something listens, they
// find it open, in both families, and not when it has gone.
func TestProber(t *testing.T) {
	if !lab.RealRoot() {
		t.Skip("real-time priority needs root of the whole machine")
	}
	l := lab.NewT(t)
	outside, gw := l.Host("outside"), l.Host("gw")
	uplink, link := l.Connect(outside, gw, "192.0.2.0/24", "2001:db8::/64")
	prober.Routes(gw, uplink)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		p, err := prober.Start(uplink, netip.AddrPortFrom(labtest.On(link, f), 22))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		opened := time.Now()
		ln, err := gw.Listen(t.Context(), "tcp", ":22")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		ln.Close()
		shut := time.Now()
		time.Sleep(100 * time.Millisecond)
		r, err := p.Stop()
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r)
		if r.Open+r.Refused != r.Probes {
			t.Errorf("%d probes, and %d answers", r.Probes, r.Open+r.Refused)
		}
		if r.Open == 0 || r.Refused == 0 || r.First.Before(opened) || r.Last.After(shut.Add(time.Millisecond)) {
			t.Errorf("listened from %s to %s", opened.Sub(r.Begin), shut.Sub(r.Begin))
		}
	})
}
