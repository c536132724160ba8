//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"postern/bench"
	"postern/examples"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/firewall/bpf"
	"postern/internal/lab"
)

// A subject is a rule set to measure.
type subject struct {
	group string // of the table
	name  string
	load  bench.Loader
	large bool // only root of the machine may load it
	keys  bool // it verifies tokens
}

func (s *subject) String() string {
	if s.group == "" {
		return s.name
	}
	return s.group + " " + s.name
}

// A stand is a host with a subject's rules, and a sender to it.
type stand struct {
	*subject
	to      *lab.Link
	sender  *lab.Sender
	flooder *lab.Sender
	packets [][]byte // made anew by each burst
	sent    uint32   // packets that were made by counting
	tokens  tokens   // that it was sent
}

// newStand builds a stand in a lab. The key is short and unique.
func newStand(ctx context.Context, l *lab.Lab, key string, s *subject) (*stand, error) {
	client, server := l.Host("c"+key), l.Host("s"+key)
	from, to := l.Connect(client, server, "192.0.2.0/24", "2001:db8::/64")
	// The host needs a route to the forged sources. Otherwise the kernel, not
	// the rules, would drop the packets.
	server.Route("0.0.0.0/0", from.Addr4())
	server.Route("::/0", from.Addr6())
	from.StaticNeighbours()
	if err := l.Err(); err != nil {
		return nil, err
	}
	if err := s.load(ctx, server); err != nil {
		return nil, err
	}
	if err := forgetConnections(server); err != nil {
		return nil, err
	}
	// What the client's kernel makes of an answer is not the rules' cost.
	throwAway := fmt.Sprintf("table netdev bench { chain answers { type filter hook ingress device %q priority 0; policy drop; }; }", from.Name)
	if err := bench.Load("nft", throwAway, "-f", "-")(ctx, client); err != nil {
		return nil, err
	}
	sender, err := from.Sender()
	if err != nil {
		return nil, err
	}
	flooder, err := from.Sender()
	return &stand{subject: s, to: to, sender: sender, flooder: flooder}, err
}

// forgetConnections has a host forget connections within a second. Where idle
// ports answer, a datagram or a stray ACK to one makes an entry of connection
// tracking; entries of one rule set would slow down the next.
func forgetConnections(h *lab.Host) error {
	return h.Do(func() error {
		for _, state := range []string{
			"udp_timeout", "udp_timeout_stream", "icmp_timeout", "icmpv6_timeout", "tcp_timeout_established", "tcp_timeout_syn_sent",
			"tcp_timeout_syn_recv", "tcp_timeout_unacknowledged", "tcp_timeout_max_retrans", "tcp_timeout_close", "tcp_timeout_time_wait",
		} {
			f, err := os.OpenFile("/proc/sys/net/netfilter/nf_conntrack_"+state, os.O_WRONLY, 0)
			if errors.Is(err, fs.ErrNotExist) {
				continue // some kernels hide it from user namespaces
			}
			if err != nil {
				return err
			}
			_, err = f.WriteString("1")
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *stand) address(f family) netip.Addr {
	if f == ipv6 {
		return s.to.Addr6()
	}
	return s.to.Addr4()
}

func (s *stand) send(packets [][]byte) error {
	_, err := s.sender.Send(packets...)
	return err
}

// The rule sets that do not knock, for IPv4 and IPv6. The second answers as
// `cover: reset` does, and with the third the kernel itself answers for idle
// ports, as in `posture: guard`: they show an answer's own share.
const (
	plainRules = `
table inet plain {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established accept
	}
}
`
	refusingRules = `
table inet plain {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established accept
		meta l4proto tcp reject with tcp reset
		meta l4proto udp reject
	}
}
`
	openRules = `
table inet plain {
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established accept
	}
}
`
)

// howto loads the how-to's rules, and the same for IPv6, which the how-to
// leaves open.
func howto(ctx context.Context, h *lab.Host) error {
	if err := bench.Load("iptables-restore", bench.Howto)(ctx, h); err != nil {
		return err
	}
	six := strings.NewReplacer("127.0.0.1/32", "::1/128", "255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"--name OK", "--name SIX").Replace(bench.Howto)
	return bench.Load("ip6tables-restore", six)(ctx, h)
}

// sizes says which rule sets are wanted.
type sizes int

const (
	largeToo sizes = iota
	small          // those that are loaded in no time
)

// subjects returns the plain firewall, and all rule sets whose names contain
// one of those listed.
func subjects(list string, wanted sizes, progress io.Writer) []*subject {
	all := []*subject{
		{name: "plain firewall", load: bench.Load("nft", plainRules, "-f", "-")},
		{name: "plain, reject", load: bench.Load("nft", refusingRules, "-f", "-")},
		{name: "plain, open", load: bench.Load("nft", openRules, "-f", "-")},
		{name: "the how-to's rules", load: howto},
	}
	add := func(b firewall.Backend, name, policy string) *subject {
		s := &subject{group: b.Name(), name: name, load: bench.LoadPolicy(b, policy, ring), large: strings.HasPrefix(name, "10,000")}
		all = append(all, s)
		return s
	}
	ours := backends.Default()
	for _, posture := range []string{"closed", "guard"} {
		for _, cover := range []string{"drop", "reset", "unreachable"} {
			add(ours, posture+" "+cover, policyText(posture, cover, 1, ownService))
		}
	}
	// A door that can be closed again, and whose connections end then: packets of open ones are
	// asked whether they have ended.
	add(ours, "closed drop, close", strings.Replace(policyText("closed", "drop", 1, ownService), "3456]}}", "3456], close: [3456, 2345, 4567]}, on_close: cut}", 1))
	if bpf.Probe() == nil {
		add(ours, "closed drop, rules", strings.Replace(policyText("closed", "drop", 1, ownService), "\ndoors:", "\nearly_drop: false\ndoors:", 1))
		for _, cover := range []string{"drop", "reset"} {
			add(ours, "closed "+cover+", keys", keyed(policyText("closed", cover, 1, ownService), 10)).keys = true
		}
		add(ours, "10,000 users", keyed(policyText("closed", "drop", 1, ownService), maxUsers)).keys = true
	}
	add(ours, "100 doors", policyText("closed", "drop", 100, ownService))
	add(ours, "10,000 doors", policyText("closed", "drop", 10000, ownService))
	add(ours, "10,000, 1 service", policyText("closed", "drop", 10000, oneService))
	for _, b := range backends.All()[1:] {
		add(b, "as the how-to", examples.Howto)
		add(b, "closed drop", policyText("closed", "drop", 1, ownService))
		add(b, "closed reset", policyText("closed", "reset", 1, ownService))
		add(b, "guard reset", policyText("guard", "reset", 1, ownService))
		add(b, "100 doors", policyText("closed", "drop", 100, ownService))
	}
	var chosen []*subject
	for i, s := range all {
		switch {
		case i > 0 && !listed(s, list), s.large && wanted == small:
		case s.large && !lab.RealRoot():
			fmt.Fprintf(progress, "leaving out %s: only root of the machine may load so large a rule set\n", s)
		default:
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// listed reports whether a subject's name has one of those listed in it.
func listed(s *subject, list string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if strings.Contains(s.String(), name) {
			return true
		}
	}
	return false
}

// In every measured policy: the first knock of the first door, and a port that
// is neither a knock nor a service.
const first, wrong = 1234, 4321

// services says what the doors of a policy open.
type services int

const (
	ownService services = iota // each its own
	oneService                 // all the same
)

// policyText returns a policy with the given number of doors. Each has three
// knocks. The ports are spread over the whole range, as in a real policy.
func policyText(posture, cover string, doors int, opened services) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nposture: %s\ncover: %s\ndoors:\n", posture, cover)
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
		if opened == ownService {
			service = 10000 + i
		}
		// A hundred different first knocks; the other knocks are the door's
		// own.
		fmt.Fprintf(&b, "  d%d: {service: %d, knock: {sequence: [%d, %d, %d]}}\n",
			i, service, 5000+i%100, port(2*i), port(2*i+1))
	}
	return b.String()
}
