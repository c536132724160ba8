package automaton

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/policy"
)

func TestLint(t *testing.T) {
	for name, test := range map[string]struct{ policy, want string }{
		"nothing to say": {`
allow:
  - service: tcp/443
  - from: 192.0.2.0/24
  - {service: tcp/22, from: 192.0.2.0/24}
  - {service: tcp/22, interface: eth1}
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [1234, 2345, 3456]}
`, ``},
		"allowed knocks": {`
allow:
  - service: tcp/8000-8099
  - {service: icmp/echo, from: 192.0.2.0/24}
  - {service: udp/53, interface: eth1}
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [8010, icmp/echo, udp/53]}
`, `
11:24 the port of this knock is allowed (line 5), so the door never opens
11:30 the port of this knock is allowed from 192.0.2.0/24 (line 6), so from there it does not count as a knock
11:41 the port of this knock is allowed on eth1 (line 7), so from there it does not count as a knock`},
		"an allowed service": {`
allow:
  - service: tcp/20-30
doors:
  ssh:
    service: [tcp/22, tcp/443]
    knock: {sequence: [1234, 2345, 3456]}
`, `
5:5 tcp/22 is allowed for everyone, so door ssh (line 7) hides nothing`},
		"services as knocks": {`
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [1234, 22, 8443]}
  web:
    service: tcp/8443
    knock: {sequence: [4321, 5432, 22]}
`, `
7:30 this knock is a service of this door
7:34 this knock is also the service of door web (line 8): a client with a grant there cannot knock here
10:36 this knock is also the service of door ssh (line 5): a client with a grant there cannot knock here`},
		"short sequences": {`
doors:
  a:
    service: tcp/22
    knock: {sequence: [1234]}
  b:
    service: tcp/23
    knock: {sequence: [3456, 2345]}
`, `
7:24 any scan of all ports opens a door with one knock
10:24 two knocks can be guessed`},
		"the same port twice in a row": {`
doors:
  a:
    service: tcp/22
    knock: {sequence: [1234, 1234, 999]}
  b:
    service: tcp/23
    knock: {sequence: [2345, 3456, 2345]}
`, `
7:30 the same knock twice in a row: a retransmission of the first counts as the second`},
		"in order": {`
allow:
  - service: tcp/5001-5999
doors:
  up:
    service: tcp/22
    knock: {sequence: [1000, 1005, 1020]}
  down:
    service: tcp/22
    knock: {sequence: [udp/900, udp/890, udp/880]}
  over:
    service: tcp/22
    knock: {sequence: [5000, 6000, 6001]}
  far:
    service: tcp/22
    knock: {sequence: [2000, 2001, 2018]}
  both:
    service: tcp/22
    knock: {sequence: [3000, 3001, 3000]}
`, `
9:24 these knocks are in ascending order, and so close that a fast scan may open the door
12:24 these knocks are in descending order, and so close that a fast scan may open the door
15:24 these knocks are in ascending order, and so close that a fast scan may open the door`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: closed\n"+test.policy))
			if err != nil {
				t.Fatal(err)
			}
			m, err := Compile(p)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, d := range m.Lint() {
				fmt.Fprintf(&got, "\n%d:%d %s", d.Line, d.Column, d.Message)
				if d.Hint == "" || d.File != "policy.yaml" || d.Source == "" {
					t.Errorf("%v lacks a hint or a place", d)
				}
			}
			if diff := cmp.Diff(test.want, got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
