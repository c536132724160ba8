package demo

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/nftables"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/policy"
)

// The pauses for a reader: before the first step, before each other step, and
// between two knocks. A run must take far less than half a minute.
const (
	openingPause = 2500 * time.Millisecond
	stepPause    = 1400 * time.Millisecond
	knockPause   = 150 * time.Millisecond
)

// A story is one run.
type story struct {
	*network
	screen  *Screen
	machine *automaton.Machine
	key     key.Credential // Ann's
	loaded  time.Time      // when the gateway had loaded the policy
	report  *Report

	session *call     // Ann's first connection, which must survive everything
	began   time.Time // when it was made

	// Bob got his grant between these two times.
	notBefore, notAfter time.Time
}

// Run tells the story on the screen, with a policy that should be Policy's. It
// ends after the first step in which a claim does not hold, with a Report and a
// *FailedError. Other errors come from building the network or from the
// context.
func Run(ctx context.Context, screen *Screen, document string) (*Report, error) {
	p, err := policy.Parse("the demo's policy", []byte(document))
	if err != nil {
		return nil, err
	}
	s := &story{screen: screen, report: &Report{OK: true, Note: Note}}
	if s.machine, err = automaton.Compile(p); err != nil {
		return nil, err
	}
	s.key = key.Credential{Site: key.NewSite(), Device: key.NewDevice(), Door: key.DoorID("keyed"), Secret: key.NewSecret()}
	s.machine.Keys = func() (automaton.Keyring, error) {
		return automaton.Keyring{Site: s.key.Site, Devices: map[string]automaton.DeviceKey{
			"ann/laptop": {ID: s.key.Device, Secret: s.key.Secret},
		}}, nil
	}
	l := lab.New()
	defer l.Close()
	services, end := context.WithCancel(ctx)
	defer end()
	if s.network, err = newNetwork(services, l); err != nil {
		return nil, err
	}
	defer func() { s.session.close() }()

	s.opening()
	steps := s.steps()
	pause := openingPause
	for i, step := range steps {
		if err := screen.pause(ctx, pause); err != nil {
			return nil, err
		}
		pause = stepPause
		s.report.Steps = append(s.report.Steps, Step{Title: step.title, OK: true})
		screen.header(i+1, len(steps), step.title)
		if err := step.play(ctx); err != nil {
			return nil, err
		}
		if !s.report.OK {
			break // what follows builds on it
		}
	}
	s.ending()
	if !s.report.OK {
		return s.report, &FailedError{s.report}
	}
	return s.report, nil
}

// claim records and prints whether a statement is true; got is what was seen.
func (s *story) claim(ok bool, got any, format string, args ...any) {
	c := Claim{Text: fmt.Sprintf(format, args...), OK: ok}
	if !ok {
		c.Got = fmt.Sprint(got)
		s.report.OK = false
		s.report.Steps[len(s.report.Steps)-1].OK = false
	}
	step := &s.report.Steps[len(s.report.Steps)-1]
	step.Claims = append(step.Claims, c)
	s.screen.claim(c)
}

// knock has a client knock at the gateway, prints what the gateway knows after
// each knock, and claims that no knock is answered. It returns what the
// gateway's kernel knew of the client after each.
func (s *story) knock(ctx context.Context, c *client, from netip.Addr, ports []uint16) ([]sourceStatus, error) {
	var after []sourceStatus
	answered := silence
	for i, port := range ports {
		if i > 0 {
			if err := s.screen.pause(ctx, knockPause); err != nil {
				return nil, err
			}
		}
		// Also where nobody watches, the story must not use up the budget.
		if err := sleep(ctx, time.Second/time.Duration(automaton.Attempts.Rate)); err != nil {
			return nil, err
		}
		answers, err := s.try(c, from, port)
		if err != nil {
			return nil, err
		}
		if answers[0] != silence {
			answered = answers[0]
		}
		now, err := s.status(from)
		if err != nil {
			return nil, err
		}
		after = append(after, now)
		heard := now.describe(c)
		if now == (sourceStatus{}) {
			heard = "progress reset"
		}
		s.screen.line("%s knocks on %-6d %-10s  gateway: %s", c.name, port, answers[0], heard)
	}
	s.claim(answered == silence, answered, "no knock was answered: %s sees only closed ports", c.name)
	return after, nil
}

// A sourceStatus is what the gateway's kernel knows of a client.
type sourceStatus struct {
	knocks int           // correct knocks so far
	port   uint16        // the service that is open to the client; 0: none
	left   time.Duration // until the progress or the grant expires
}

// describe returns the status of a client in words.
func (s sourceStatus) describe(c *client) string {
	switch {
	case s.port != 0:
		return fmt.Sprintf("port %d open to %s for %s", s.port, c.name, seconds(s.left))
	case s.knocks > 0:
		return fmt.Sprintf("%d correct, %s for the next", s.knocks, seconds(s.left))
	}
	return fmt.Sprintf("no port open to %s", c.name)
}

// summary describes several statuses, in order.
func summary(after []sourceStatus, c *client) string {
	var all []string
	for _, s := range after {
		all = append(all, s.describe(c))
	}
	return strings.Join(all, ", then ")
}

// status queries the gateway's kernel, as `postern status` does.
func (s *story) status(source netip.Addr) (sourceStatus, error) {
	var now sourceStatus
	var status *firewall.Status
	err := s.gateway.Do(func() (err error) {
		if status, err = (nftables.Backend{}).Inspect(); err != nil {
			return err
		}
		return firewall.ReadSources(nftables.Backend{}, status)
	})
	if err != nil {
		return now, err
	}
	for _, p := range status.Progress {
		for i := range s.machine.States {
			if state := &s.machine.States[i]; p.Source == source && p.State == state.ID {
				now.knocks, now.left = len(state.Path), p.Left
			}
		}
	}
	for _, g := range status.Grants {
		if grant := s.machine.Grant(g.ID); grant != nil && g.Source == source {
			now.port, now.left = s.machine.Services[grant.Service].Port.Number, g.Left
		}
	}
	return now, nil
}

// shut claims that a port does not answer a client.
func (s *story) shut(c *client, from netip.Addr, port uint16, format string, args ...any) error {
	answers, err := s.try(c, from, port)
	if err != nil {
		return err
	}
	s.claim(answers[0] == silence, "port "+fmt.Sprint(port)+" is "+string(answers[0]), format, args...)
	return nil
}

// counted reports whether the numbers of correct knocks are want, with no port
// open.
func counted(after []sourceStatus, want ...int) bool {
	if len(after) != len(want) {
		return false
	}
	for i := range want {
		if after[i].port != 0 || after[i].knocks != want[i] {
			return false
		}
	}
	return true
}

// inTime reports whether the remaining times are all within the limit, and not
// shorter by more than a busy machine may cause.
func inTime(after []sourceStatus, limit time.Duration) bool {
	for _, s := range after {
		if s.left > limit || s.left < limit/2 {
			return false
		}
	}
	return true
}

// seconds formats a time in seconds.
func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

// numbers formats ports as a person would type them.
func numbers(ports []uint16) string {
	return strings.Trim(fmt.Sprint(ports), "[]")
}
