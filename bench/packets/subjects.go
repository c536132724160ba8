//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"postern/bench"
	"postern/examples"
	"postern/internal/firewall/backends"
	"postern/internal/lab"
)

// A subject is a rule set to measure.
type subject struct {
	name string
	load bench.Loader

	first, wrong uint16 // a first knock, and a port that is not a knock
}

// A stand is a host with a subject's rules, and a sender to it.
type stand struct {
	*subject
	from, to *lab.Link
	scanner  *lab.Sender
	flooder  *lab.Sender
}

func newStand(ctx context.Context, l *lab.Lab, s *subject) (*stand, error) {
	n := strings.NewReplacer(" ", "", ",", "").Replace(s.name)
	n = strings.ToLower(n[max(0, len(n)-8):])
	client, server := l.Host("c"+n), l.Host("s"+n)
	from, to := l.Connect(client, server, "192.0.2.0/24", "2001:db8::/64")
	// The host needs a route to the spoofed sources. Otherwise the kernel, not
	// the rules, would drop the packets.
	server.Route("0.0.0.0/0", from.Addr4())
	server.Route("::/0", from.Addr6())
	if err := l.Err(); err != nil {
		return nil, err
	}
	if err := s.load(ctx, server); err != nil {
		return nil, err
	}
	scanner, err := from.Sender()
	if err != nil {
		return nil, err
	}
	flooder, err := from.Sender()
	if err != nil {
		return nil, err
	}
	return &stand{s, from, to, scanner, flooder}, nil
}

const plainRules = `
table inet plain {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established accept
	}
}
`

func subjects(only string) []*subject {
	all := []*subject{
		{name: "plain stateful firewall", load: bench.Load("nft", plainRules, "-f", "-"), first: 1234, wrong: 4321},
		{name: "the how-to's iptables rules", load: bench.Load("iptables-restore", bench.Howto), first: 1234, wrong: 4321},
		{name: "postern, 1 door", load: bench.LoadPolicy(backends.Default(), policyText(1, false)), first: first, wrong: wrong},
		{name: "postern, 100 doors", load: bench.LoadPolicy(backends.Default(), policyText(100, false)), first: first, wrong: wrong},
		{name: "postern, 10000 doors", load: bench.LoadPolicy(backends.Default(), policyText(10000, false)), first: first, wrong: wrong},
		{name: "postern, 10000 doors on one service", load: bench.LoadPolicy(backends.Default(), policyText(10000, true)), first: first, wrong: wrong},
	}
	for _, b := range backends.All()[1:] {
		by := "postern by " + b.Name()
		all = append(all,
			&subject{name: by + ", as the how-to", load: bench.LoadPolicy(b, examples.Howto), first: 1234, wrong: 4321},
			&subject{name: by + ", 1 door", load: bench.LoadPolicy(b, policyText(1, false)), first: first, wrong: wrong},
			&subject{name: by + ", 100 doors", load: bench.LoadPolicy(b, policyText(100, false)), first: first, wrong: wrong})
	}
	var chosen []*subject
	for i, s := range all {
		if strings.Contains(s.name, "10000") && !lab.RealRoot() {
			fmt.Fprintf(os.Stderr, "leaving out %s: only root of the machine may load so large a rule set\n", s.name)
			continue
		}
		if i == 0 || strings.Contains(s.name, only) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// In every measured policy: the first knock of the first door, and a port that
// is neither a knock nor a service.
const first, wrong = 1234, 4321

// policyText returns a policy with the given number of doors. Each has three
// knocks; all doors open services of their own, or the same one. The ports are
// spread over the whole range, as in a real policy.
func policyText(doors int, oneService bool) string {
	var b strings.Builder
	b.WriteString("version: 1\nposture: closed\ndoors:\n")
	fmt.Fprintf(&b, "  d0: {service: 22, knock: {sequence: [%d, 2345, 3456]}}\n", first)
	port := func(n int) int { // steps through all ports except those of the first door
		p := 1 + (n*7919)%65535
		if p == first || p == wrong || p == 22 {
			p = 65000
		}
		return p
	}
	for i := 1; i < doors; i++ {
		service := 22
		if !oneService {
			service = 10000 + i
		}
		// A hundred different first knocks; the other knocks are the door's
		// own.
		fmt.Fprintf(&b, "  d%d: {service: %d, knock: {sequence: [%d, %d, %d]}}\n",
			i, service, 5000+i%100, port(2*i), port(2*i+1))
	}
	return b.String()
}

var source = netip.MustParseAddr("198.51.100.7")
