//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"postern/bench"
	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/policy"
)

// A variant is one way to run the same doors.
type variant struct {
	backend firewall.Backend
	posture policy.Posture
	cover   policy.Cover
}

func (v variant) String() string {
	return fmt.Sprintf("%s, %s, %s", v.backend.Name(), v.posture, v.cover)
}

// idleAnswers reports whether a TCP port that nothing listens on answers as
// often as it is asked. (ICMP errors are limited to so many a second.)
func (v variant) idleAnswers() bool {
	return v.posture == policy.Guard || v.cover == policy.CoverReset
}

// Ports of the policy. The allowed port answers with the kernel's own RST.
const (
	service = 22
	allowed = 443
)

// A secret is what an attacker looks for: the sequences of two doors.
type secret struct{ knocks, udpKnocks []probe }

// randomSecret returns sequences of three knocks of TCP, or of UDP, and of two of UDP.
func randomSecret(udp bool) secret {
	var s secret
	for len(s.knocks) < 3 {
		s.knocks = append(s.knocks, probe{s.wrongPort(), udp})
	}
	for len(s.udpKnocks) < 2 {
		s.udpKnocks = append(s.udpKnocks, probe{s.wrongPort(), true})
	}
	return s
}

// anyPort returns a random port, but 0.
func anyPort() uint16 { return uint16(1 + rand.IntN(1<<16-1)) }

// wrongPort returns a random port that the policy does not name.
func (s secret) wrongPort() uint16 {
	for {
		p := anyPort()
		of := func(k probe) bool { return k.port == p }
		if !slices.Contains([]uint16{service, allowed, idle}, p) && !slices.ContainsFunc(s.knocks, of) && !slices.ContainsFunc(s.udpKnocks, of) {
			return p
		}
	}
}

// A stand is a server with a variant's rules, and an attacker beside it.
type stand struct {
	variant
	secret
	*prober
	lab    *lab.Lab
	decoys map[probe]bool
}

// compile returns the variant's machine for a door to the service, and another.
func (v variant) compile(s secret) (*automaton.Machine, error) {
	sequence := func(all []probe) string {
		return strings.ReplaceAll(fmt.Sprint(all), " ", ", ")
	}
	return bench.Compile(v.backend, fmt.Sprintf("version: 1\nposture: %s\ncover: %s\n"+
		"log: {target: nflog, group: %d}\nallow:\n  - service: tcp/%d\ndoors:\n"+
		"  ssh: {service: tcp/%d, knock: {sequence: %s}}\n"+
		"  vpn: {service: udp/1194, knock: {sequence: %s}}\n",
		v.posture, v.cover, logGroup, allowed, service, sequence(s.knocks), sequence(s.udpKnocks)))
}

// newStand returns a stand with a variant's rules. The caller must close it.
func newStand(ctx context.Context, v variant, s secret) (_ *stand, err error) {
	l := lab.New()
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	attacker, server := l.Host("attacker"), l.Host("server")
	from, _ := l.Connect(attacker, server, "192.0.2.0/24", "2001:db8::/64")
	from.StaticNeighbours()
	// The attacker answers for all networks that it sends in the name of.
	server.Route("0.0.0.0/0", from.Addr4())
	server.Route("::/0", from.Addr6())
	// Its own kernel throws answers away at once, as it would do anyway, instead
	// of answering with an ICMP error each time.
	attacker.Sysctl("net.ipv6.conf."+from.Name+".disable_ipv6", "1")
	if err := l.Err(); err != nil {
		return nil, err
	}
	m, err := v.compile(s)
	if err != nil {
		return nil, err
	}
	if err := server.Do(func() error { return v.backend.Apply(m) }); err != nil {
		return nil, err
	}
	decoys := map[probe]bool{}
	for _, d := range m.Decoys() {
		decoys[probe{d.Path[0].Number, d.Path[0].Protocol == policy.UDP}] = true
	}
	if err := readLog(l, server); err != nil {
		return nil, fmt.Errorf("NFLOG: %w", err)
	}
	var ln net.Listener
	if ln, err = server.Listen(ctx, "tcp", fmt.Sprintf(":%d", service)); err != nil {
		return nil, err
	}
	l.OnClose(ln.Close)
	p, err := newProber(from)
	if err != nil {
		return nil, err
	}
	return &stand{v, s, p, l, decoys}, nil
}

func (s *stand) close() {
	s.prober.close()
	s.lab.Close()
}

// answered returns probes with one more that is answered, if the last of them
// may not be.
func (s *stand) answered(probes ...probe) []probe {
	last := probes[len(probes)-1]
	if s.idleAnswers() && !last.udp && last.port != service {
		return probes
	}
	return append(probes, probe{port: allowed})
}
