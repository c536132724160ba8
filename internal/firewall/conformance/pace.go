package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/policy"
)

// A pace is the timing of a run. It depends on the timeouts that a backend
// supports.
type pace struct {
	timeouts []string      // for drawing policies; a run waits for all but the last
	patience time.Duration // the longest wait of a scenario for a deadline
	lastAt   time.Duration // when a scenario stops sending
	packets  int           // in a run, unless the flag is set
	atOnce   int           // scenarios at a time under one policy, each from one to three sources or so
	testbeds int           // policies that are tested at the same time
	tags     bool          // tokens are verified by tags
}

// paces are tried in this order. With long timeouts, a run mostly waits, so
// several policies are tested at the same time, each in a testbed of its own.
// They have few sources: xt_recent, which counts seconds, remembers no more
// than 100. Each testbed has about 60 sockets, and one process may have 1024 at most, two
// runs at a time included: the nftables library waits with select.
var paces = []pace{
	{
		timeouts: []string{"100ms", "150ms", "200ms", "300ms", "1m"},
		patience: 500 * time.Millisecond, lastAt: 1500 * time.Millisecond,
		packets: 20000, atOnce: 40, testbeds: 4,
	},
	{
		timeouts: []string{"1s", "1s", "2s", "1m"},
		patience: 2100 * time.Millisecond, lastAt: 5 * time.Second,
		packets: 8000, atOnce: 20, testbeds: 6,
	},
}

// A subject is the backend under test, as needed for drawing policies.
type subject struct {
	pace
	backend firewall.Backend
	compile func(*policy.Policy) (*automaton.Machine, error)
	keys    automaton.Keyring // of all devices
	tokens  bool              // some policies have keys
	early   bool              // under some policies packets are dropped early
	udp     bool              // datagrams, too
	classic bool              // the classic recipe has parameters of its own
	drawn   int               // valid policies drawn, including those that the backend cannot express
}

// newSubject finds out what the backend supports by compiling policies.
func newSubject(b firewall.Backend) (*subject, error) {
	s := &subject{backend: b, compile: b.Machine, keys: newKeyring(), tokens: verifies(b)}
	var refusal *firewall.InexpressibleError
	for _, s.pace = range paces {
		err := s.keeps(s.timeouts)
		if _, tags := b.(Tagger); err == nil && tags {
			s.tags, s.tokens, s.packets = true, true, s.packets/5
			return s, nil
		}
		if err == nil {
			return s, errors.Join(s.compare(), s.dropsEarly())
		}
		if !errors.As(err, &refusal) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the suite has no timeouts that the backend can keep: %w", refusal)
}

// keeps returns nil if the backend supports these timeouts.
func (s *subject) keeps(timeouts []string) error {
	for _, t := range timeouts {
		if _, err := s.machine(small("closed", t)); err != nil {
			return err
		}
	}
	return nil
}

// compare finds out whether the backend has other parameters for the classic
// recipe.
func (s *subject) compare() error {
	var parameters []automaton.Parameters
	for _, posture := range []string{"closed", "guard"} {
		m, err := s.machine(small(posture, s.timeouts[0]))
		if err != nil {
			return err
		}
		parameters = append(parameters, m.Parameters)
	}
	s.classic = parameters[0] != parameters[1]
	return nil
}

// dropsEarly finds out whether the backend drops packets early, where it verifies tokens.
func (s *subject) dropsEarly() error {
	p := small("closed", s.timeouts[0])
	p.early = true
	m, err := s.machine(p)
	if s.early = err == nil && m.Parameters.Early && s.tokens; s.early {
		s.udp, err = bpf.CountsUDP()
	}
	return err
}

// small returns a policy with one door, which is the classic recipe if it is
// closed.
func small(posture, timeout string) *plan {
	return &plan{
		posture: posture, cover: "drop", ipv4: 32, ipv6: 128, log: "{target: none}",
		doors: []doorPlan{{
			name: "door", services: []string{"22"}, sequence: []string{"1001"},
			stepTimeout: timeout, retransmits: "reset", openFor: timeout, admit: "one", forfeit: true,
		}},
	}
}

// machine compiles a plan.
func (s *subject) machine(p *plan) (*automaton.Machine, error) {
	parsed, err := policy.Parse("policy.yaml", []byte(p.text()))
	if err != nil {
		return nil, err
	}
	m, err := s.compile(parsed)
	if err == nil {
		m.Parameters.EarlyUDP = m.Parameters.EarlyUDP && s.udp
		m.Keys = func() (automaton.Keyring, error) { return s.keys, nil }
		m.Secret = []byte(hostSecret)
	}
	return m, err
}

// draw draws plans until one is a valid policy that the backend can express.
func (s *subject) draw(r *rand.Rand, blocks []block) (*plan, *automaton.Machine, error) {
	var invalid *policy.InvalidError
	var inexpressible *firewall.InexpressibleError
	var err error
	for range 1000 {
		draw := drawPlan
		if s.classic && chance(r, 0.3) {
			draw = drawClassic
		}
		p := draw(r, s.timeouts, blocks)
		if s.early && chance(r, 0.4) {
			p.dropEarly()
		}
		if p.tags = s.tags; s.tokens && !p.classic && (p.tags || chance(r, 0.5)) {
			p.drawKeys(r, blocks)
		}
		var m *automaton.Machine
		m, err = s.machine(p)
		switch {
		case err == nil:
			s.drawn++
			return p, m, nil
		case errors.As(err, &inexpressible):
			s.drawn++
		case !errors.As(err, &invalid):
			return nil, nil, fmt.Errorf("%w; the policy was\n%s", err, p.text())
		}
	}
	return nil, nil, fmt.Errorf("none of 1000 random policies can be used; the last error: %w", err)
}
