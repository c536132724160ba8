package iptables

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab/labtest"
)

// TestReplace changes the policy under clients that knock. What was earned stays, as
// far as it means the same as before, and connections go on.
func TestReplace(t *testing.T) {
	t.Parallel()
	const (
		ssh = "  ssh: {service: tcp/22, knock: {sequence: [1, 2, 3], step_timeout: 5m}, open_for: 5m}\n"
		web = "  web: {service: tcp/80, knock: {sequence: [1, 2, 4], step_timeout: 5m}, open_for: %s, admit: any}\n"
		top = "  top: {service: tcp/22, knock: {sequence: [6, 8], step_timeout: 5m}, open_for: 5m}\n" // as ssh, but for the knocks
		db  = "  db: {service: tcp/5432, knock: {sequence: [6, 7], step_timeout: 5m}, open_for: 5m, from: [%s]}\n"
		all = "0.0.0.0/0, \"::/0\""
	)
	policies := []string{
		labtest.Closed + "doors:\n" + ssh + top + fmt.Sprintf(web, "5m") + fmt.Sprintf(db, all),
		labtest.Closed + "allow: [{service: tcp/443}]\ndoors:\n  new: {service: tcp/90, knock: {sequence: [8, 9]}}\n" + ssh +
			fmt.Sprintf(db, "203.0.113.0/24, \"2001:db8:ffff::/48\"") + fmt.Sprintf(web, "4m"),
		labtest.Closed + "doors:\n" + fmt.Sprintf(web, "5m") + ssh,
	}
	const replacements = 20
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		s := labtest.NewScene(t, b)
		for _, port := range []uint16{22, 80, 5432} {
			labtest.Greet(t, s.Gateway, port, "hello")
		}
		old := s.Dial(t, s.Client, netip.AddrPortFrom(s.Gate.Addr4(), 22), "hello")
		s.Up(policies[0])
		s.Knock(s.Outside.Addr6(), labtest.TCP(1), labtest.TCP(2), labtest.TCP(3))
		young := s.Dial(t, s.Client, netip.AddrPortFrom(s.Gate.Addr6(), 22), "hello")
		stop, talked := make(chan struct{}), make(chan error)
		for _, c := range []*labtest.Session{old, young} {
			go func() {
				var err error
				for err == nil {
					select {
					case <-stop:
						talked <- nil
						return
					case <-time.After(10 * time.Millisecond):
						err = c.Talk()
					}
				}
				talked <- err
			}()
		}
		for i := range replacements {
			f := families[i%2]
			s.Up(policies[0])
			newAddress := func() netip.Addr { return s.NewAddress(labtest.Family(f)) }
			granted, knocking, surfer, keeper, topped := newAddress(), newAddress(), newAddress(), newAddress(), newAddress()
			s.Knock(granted, labtest.TCP(1), labtest.TCP(2), labtest.TCP(3))
			s.Knock(knocking, labtest.TCP(1), labtest.TCP(2))
			s.Knock(surfer, labtest.TCP(1), labtest.TCP(2), labtest.TCP(4))
			s.Knock(keeper, labtest.TCP(6), labtest.TCP(7))
			s.Knock(topped, labtest.TCP(6), labtest.TCP(8))
			s.Settled()
			s.Expect(t, surfer, labtest.TCP(80), labtest.SYNACK, "a grant for any number of connections")

			which := 1 + i/2%2
			s.Up(policies[which])
			s.Expect(t, granted, labtest.TCP(80), labtest.Silence, "a grant of ssh")
			s.Expect(t, granted, labtest.TCP(22), labtest.SYNACK, "a grant of ssh")
			s.Expect(t, granted, labtest.TCP(22), labtest.Silence, "a grant of ssh that was used")
			s.Expect(t, topped, labtest.TCP(22), labtest.Silence, "a grant of a door that is gone, whose service ssh opens")
			s.Knock(knocking, labtest.TCP(3))
			s.Expect(t, knocking, labtest.TCP(22), labtest.SYNACK, "two knocks before and one after")
			if which == 1 {
				s.Expect(t, surfer, labtest.TCP(80), labtest.Silence, "a grant longer than the new policy allows")
				s.Knock(keeper, labtest.TCP(6)) // what is not a knock would start over
			} else {
				s.Expect(t, surfer, labtest.TCP(80), labtest.SYNACK, "a grant that means the same")
			}
			s.Expect(t, keeper, labtest.TCP(5432), labtest.Silence, "a grant for sources that are no longer welcome, or of a door that is gone")
			s.Up(policies[0])
			s.Expect(t, keeper, labtest.TCP(5432), labtest.Silence, "that grant, back in the old policy")
		}
		close(stop)
		for range 2 {
			if err := <-talked; err != nil {
				t.Errorf("a connection did not live through it: %v", err)
			}
		}
	})
}
