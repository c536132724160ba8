package iptables

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestReplace changes the policy under clients that knock. What was earned stays, as
// far as it means the same as before, and connections go on.
func TestReplace(t *testing.T) {
	t.Parallel()
	const (
		ssh = "  ssh: {service: tcp/22, knock: {sequence: [1, 2, 3], step_timeout: 5m}, open_for: 5m}\n"
		web = "  web: {service: tcp/80, knock: {sequence: [1, 2, 4], step_timeout: 5m}, open_for: %s, admit: any}\n"
		db  = "  db: {service: tcp/5432, knock: {sequence: [6, 7], step_timeout: 5m}, open_for: 5m, from: [%s]}\n"
		all = "0.0.0.0/0, \"::/0\""
	)
	policies := []string{
		shutAll + "doors:\n" + ssh + fmt.Sprintf(web, "5m") + fmt.Sprintf(db, all),
		shutAll + "allow: [{service: tcp/443}]\ndoors:\n  new: {service: tcp/90, knock: {sequence: [8, 9]}}\n" + ssh +
			fmt.Sprintf(db, "203.0.113.0/24, \"2001:db8:ffff::/48\"") + fmt.Sprintf(web, "4m"),
		shutAll + "doors:\n" + fmt.Sprintf(web, "5m") + ssh,
	}
	const replacements = 20
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		s := newScene(t, b)
		for _, port := range []uint16{22, 80, 5432} {
			serve(t, s.gw, "tcp", port)
		}
		old := s.dial(s.client, netip.AddrPortFrom(s.gate.Addr4(), 22))
		s.up(policies[0])
		s.knock(s.outside.Addr6(), 1, 2, 3)
		young := s.dial(s.client, netip.AddrPortFrom(s.gate.Addr6(), 22))
		stop, talked := make(chan struct{}), make(chan error)
		for _, c := range []*session{old, young} {
			go func() {
				var err error
				for err == nil {
					select {
					case <-stop:
						talked <- nil
						return
					default:
						err = c.talk()
					}
				}
				talked <- err
			}()
		}
		for i := range replacements {
			f := families[i%2]
			s.up(policies[0])
			granted, partway, surfer, keeper := s.stranger(f), s.stranger(f), s.stranger(f), s.stranger(f)
			s.knock(granted, 1, 2, 3)
			s.knock(partway, 1, 2)
			s.knock(surfer, 1, 2, 4)
			s.knock(keeper, 6, 7)
			s.settle()
			s.expect(surfer, 80, welcomed, "a grant for any number of connections")

			which := 1 + i/2%2
			s.up(policies[which])
			s.expect(granted, 80, silence, "a grant of ssh")
			s.expect(granted, 22, welcomed, "a grant of ssh")
			s.expect(granted, 22, silence, "a grant of ssh that was used")
			s.knock(partway, 3)
			s.expect(partway, 22, welcomed, "two knocks before and one after")
			if which == 1 {
				s.expect(surfer, 80, silence, "a grant of longer than the new policy gives")
				s.knock(keeper, 6) // what is not a knock would start over
			} else {
				s.expect(surfer, 80, welcomed, "a grant that means the same")
			}
			s.expect(keeper, 5432, silence, "a grant for sources that are no longer welcome, or of a door that is gone")
			s.up(policies[0])
			s.expect(keeper, 5432, silence, "that grant, back in the old policy")
		}
		close(stop)
		for range 2 {
			if err := <-talked; err != nil {
				t.Errorf("a connection did not live through it: %v", err)
			}
		}
	})
}
