package iptables

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/lab/labtest"
)

// TestInserted: what another program puts before our rules, and what opens, is told, and the
// next Apply takes the first place again. Whatever does no harm stays where it is.
func TestInserted(t *testing.T) {
	t.Parallel()
	const policy = "version: 1\nposture: guard\nlog: {target: none}\ncover: drop\n" +
		"doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n"
	const accept = "*filter\n-I INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"
	const again = "" // all that is loaded, once more
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		for name, test := range map[string]struct {
			text    string
			opens   bool
			altered bool
		}{
			"ACCEPT":   {accept, true, true},
			"REDIRECT": {"*nat\n-I PREROUTING -p tcp -m tcp --dport 22 -j REDIRECT --to-ports 2222\nCOMMIT\n", true, true},
			"in the manner of containers": {"*nat\n:DOCKER - [0:0]\n-I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n" +
				"-A DOCKER -i docker0 -j RETURN\n-A DOCKER -p tcp -m tcp --dport 22 -j REDIRECT --to-ports 2222\nCOMMIT\n", true, true},
			"in the manner of fail2ban": {"*filter\n:f2b-sshd - [0:0]\n-I INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n" +
				"-A f2b-sshd -s 203.0.113.1 -j REJECT\n-A f2b-sshd -j RETURN\nCOMMIT\n", false, false},
			"what was saved, loaded again": {again, false, true},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := labtest.NewScene(t, b)
				labtest.Greet(t, s.Gateway, 22, "hello")
				labtest.Greet(t, s.Gateway, 2222, "hello")
				s.Up(policy)
				rules := func() string {
					return listed(t, s.Gateway, program(b.Variant, IPv4, "save")) + listed(t, s.Gateway, program(b.Variant, IPv6, "save"))
				}
				first := rules()
				for _, f := range families {
					text := strings.ReplaceAll(test.text, "203.0.113.1", s.NewAddress(labtest.Family(f)).String())
					if text == again {
						saved, err := s.Gateway.Command(t.Context(), program(b.Variant, f, "save")).Output()
						if err != nil {
							t.Fatal(err)
						}
						text = string(saved)
					}
					insert(t, s.Gateway, program(b.Variant, f, "restore"), text)
					answer := labtest.Silence
					if test.opens {
						answer = labtest.SYNACK
					}
					s.Expect(t, s.NewAddress(labtest.Family(f)), labtest.TCP(22), answer, "with what is before our rules")
				}
				if got := s.Inspect().Altered; got != test.altered {
					t.Errorf("it is told to be altered: %v", got)
				}
				inserted := rules()
				s.Up(policy)
				if st := s.Inspect(); !st.Loaded || st.Altered {
					t.Errorf("after up: %+v", st)
				}
				for _, f := range families {
					s.Expect(t, s.NewAddress(labtest.Family(f)), labtest.TCP(22), labtest.Silence, "after up")
				}
				repaired := rules()
				switch {
				case !test.altered:
					if d := cmp.Diff(inserted, repaired); d != "" {
						t.Errorf("up has moved something (-before +after):\n%s", d)
					}
				case test.text == again:
					if d := cmp.Diff(first, repaired); d != "" {
						t.Errorf("up has not taken out the copies (-first +repaired):\n%s", d)
					}
				}
				s.Up(policy)
				if d := cmp.Diff(repaired, rules()); d != "" {
					t.Errorf("a second up changes something (-first +second):\n%s", d)
				}
			})
		}
	})
}
