package main

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
	"postern/internal/host"
	"postern/internal/policy"
)

func (s *session) checkCommand() *cobra.Command {
	scan := automaton.Scan{}
	var here bool
	var backend *string
	cmd := &cobra.Command{
		Use:     "check",
		Short:   shortCheck,
		Long:    longCheck,
		Example: exampleCheck,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !(scan.Rate > 0) || math.IsInf(scan.Rate, 0):
				return &usageError{err: errors.New(sayBadRate), cmd: cmd}
			case scan.CPUs < 1:
				return &usageError{err: errors.New(sayBadCPUs), cmd: cmd}
			}
			look := lookHere
			if !here {
				look = lookNowhere
			}
			b, err := s.chosen(*backend, cmd)
			if err != nil {
				return err
			}
			return s.check(b, scan, look)
		},
	}
	cmd.Flags().Float64Var(&scan.Rate, "rate", 10_000, flagRate)
	cmd.Flags().IntVar(&scan.CPUs, "cpus", runtime.NumCPU(), flagCPUs)
	cmd.Flags().BoolVar(&here, "here", true, flagHere)
	backend = s.backendFlag(cmd)
	return cmd
}

// What check looks at besides the policy.
type look int

const (
	lookHere look = iota // this host
	lookNowhere
)

// checked is the answer of check to programs.
type checked struct {
	File     string        `json:"file"`
	Backend  string        `json:"backend"`
	Rate     float64       `json:"rate"`
	CPUs     int           `json:"cpus"`
	Doors    []checkedDoor `json:"doors"`
	Warnings []remark      `json:"warnings"`
}

// A checkedDoor tells after how many probes each scan opens a door: null if it
// never does.
type checkedDoor struct {
	Name       string   `json:"name"`
	Services   []string `json:"services"`
	Knocks     int      `json:"knocks"`
	Ascending  *float64 `json:"ascending"`
	Descending *float64 `json:"descending"`
	Random     *float64 `json:"random"` // on average
}

func (s *session) check(b firewall.Backend, scan automaton.Scan, at look) error {
	m, err := s.machine(b)
	if err != nil {
		return err
	}
	answer := checked{File: s.file, Backend: b.Name(), Rate: scan.Rate, CPUs: scan.CPUs, Doors: scanned(m, scan)}
	if !s.json {
		if _, err := io.WriteString(s.out, s.checkedText(answer)); err != nil {
			return err
		}
		s.sayScan(answer)
	}
	for _, d := range m.Lint() {
		s.warn(aboutLine(d))
	}
	if at == lookHere {
		s.lookAround(m)
		if tables, ok := b.(iptables.Backend); ok {
			s.warn(memory(tables)...)
		}
	}
	answer.Warnings = s.remarks
	if s.json {
		return s.answer(answer)
	}
	s.sayValid(len(s.remarks))
	return nil
}

// scanned has the machine scanned in every order.
func scanned(m *automaton.Machine, scan automaton.Scan) []checkedDoor {
	results := func(order automaton.Order) []automaton.Result {
		scan.Order = order
		return m.Scan(scan)
	}
	ascending, descending, random := results(automaton.Ascending), results(automaton.Descending), results(automaton.Random)
	probes := func(r automaton.Result) *float64 {
		if !r.Opens || math.IsInf(r.Probes, 0) || math.IsNaN(r.Probes) {
			return nil
		}
		return &r.Probes
	}
	var doors []checkedDoor
	for i := range m.Doors {
		d := &m.Doors[i]
		doors = append(doors, checkedDoor{
			d.Name, services(m, d), len(d.Knock.Sequence),
			probes(ascending[i]), probes(descending[i]), probes(random[i]),
		})
	}
	return doors
}

// checkedText says what scans do.
func (s *session) checkedText(c checked) string {
	t := table{headCheck}
	for _, d := range c.Doors {
		t = append(t, []string{
			d.Name, strconv.Itoa(d.Knocks), opensText(d.Ascending), opensText(d.Descending), averageText(d.Random, c.Rate),
		})
	}
	var b strings.Builder
	t.write(&b, s.outTTY)
	return b.String()
}

// lookAround finds what on this host the policy does not fit.
func (s *session) lookAround(m *automaton.Machine) {
	s.warn(absentInterfaces(m.Policy)...)
	switch port, err := enslavedInterface(m.Policy); {
	case err != nil:
		s.warn(remark{Message: err.Error()})
	case port != nil:
		s.warn(port.remark())
	}
	if stuck := notForwarding(m); stuck != nil {
		s.warn(stuck.remark())
	}
	listening, err := host.Listening()
	if err != nil {
		s.warn(remark{Message: err.Error()})
		return
	}
	knocks := map[policy.Port]bool{}
	for i := range m.Doors {
		d := &m.Doors[i]
		for n, port := range d.Knock.Sequence {
			if !knocks[port] && slices.Contains(listening, port) {
				s.warn(aboutLine(m.Policy.Diagnose(d.Knock.SequencePos[n], sayKnockInUse(port), hintKnockInUse)))
			}
			knocks[port] = true
		}
	}
	if m.Policy.Posture != policy.Guard {
		return
	}
	var unlisted []string
	for _, port := range listening {
		known := slices.ContainsFunc(m.Policy.Allow, func(a policy.Allow) bool {
			return a.Service == policy.Service{} || a.Service.Covers(port)
		})
		known = known || slices.ContainsFunc(m.Services, func(s automaton.Service) bool { return s.Port == port })
		if !known && !knocks[port] && !dhcpClient(port) {
			unlisted = append(unlisted, port.String())
		}
	}
	if len(unlisted) > 0 {
		s.warn(aboutUnlisted(unlisted))
	}
}

// enough is a number of senders that is no cause for a warning: it takes a flood of
// a million packets a second to drive one out in the time between two knocks.
const enough = 65536

// memory tells how many forged knocks it takes to have xt_recent forget a client.
func memory(b iptables.Backend) []remark {
	if _, err := b.Version(); err != nil {
		f := explain(err)
		return []remark{{Message: f.Message, Hints: f.Hints}}
	}
	c, err := iptables.ReadCapacity()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return []remark{unknownCapacity()}
	case err != nil:
		return []remark{{Message: err.Error()}}
	case c.Senders >= enough:
		return nil
	}
	return []remark{aboutCapacity(c)}
}

// dhcpClient tells a port that only answers come to, from servers that were asked.
func dhcpClient(p policy.Port) bool {
	return p.Protocol == policy.UDP && (p.Number == 68 || p.Number == 546)
}
