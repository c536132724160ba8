package iptables

import (
	"strings"
	"testing"

	"postern/internal/lab/labtest"
)

// TestLog counts the lines that rules write: one for a connection that is admitted, and
// none for knocks unless the policy wants them.
func TestLog(t *testing.T) {
	t.Parallel()
	for log, want := range map[string][2]uint64{ // after the knocks, and after the connection
		"{target: nflog, group: 5}":                 {0, 1},
		"{target: nflog, group: 5, progress: true}": {2, 3},
		"{target: none}":                            {0, 0},
	} {
		t.Run(log, func(t *testing.T) {
			b := Backend{}
			s := labtest.NewScene(t, b)
			s.Up("version: 1\nposture: closed\nlog: " + log + "\ndoors: {ssh: {service: tcp/22, knock: {sequence: [7001, 7002, 7003]}}}\n")
			labtest.Greet(t, s.Gateway, 22, "hello")
			lines := func() (n uint64) {
				t.Helper()
				s.Settled()
				if err := s.Gateway.Do(func() error {
					loaded, err := b.read()
					for _, table := range loaded {
						for _, c := range table.chains {
							for _, r := range c.rules {
								if strings.Contains(r.text, "-j NFLOG") || strings.Contains(r.text, "-j LOG") {
									n += r.packets
								}
							}
						}
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
				return n
			}
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				before, src := lines(), s.NewAddress(f)
				s.Knock(src, labtest.TCP(9), labtest.TCP(22), labtest.TCP(7001), labtest.TCP(7002), labtest.TCP(7003))
				knocked := lines() - before
				s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "after the knocks")
				if got := [2]uint64{knocked, lines() - before}; got != want {
					t.Errorf("%v lines after the knocks and after the connection, want %v", got, want)
				}
			})
		})
	}
}
