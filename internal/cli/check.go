package cli

import (
	"errors"
	"io"
	"math"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/preflight"
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
				return &ui.UsageError{Err: errors.New(sayBadRate), Cmd: cmd}
			case scan.CPUs < 1:
				return &ui.UsageError{Err: errors.New(sayBadCPUs), Cmd: cmd}
			}
			b, err := s.named(*backend, cmd)
			if err != nil {
				return err
			}
			at := lookNowhere
			if here {
				at = lookHere
			}
			return s.check(b, scan, at)
		},
	}
	cmd.Flags().Float64Var(&scan.Rate, "rate", 10_000, flagRate)
	cmd.Flags().IntVar(&scan.CPUs, "cpus", runtime.NumCPU(), flagCPUs)
	aboutHere := flagHere
	if backends.Load {
		aboutHere = flagNotHere
	}
	cmd.Flags().BoolVar(&here, "here", backends.Load, aboutHere)
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
	Timed    bool          `json:"timed"` // who times answers needs fewer random probes
	Doors    []checkedDoor `json:"doors"`
	Warnings []ui.Remark   `json:"warnings"`

	timing preflight.Timing
}

// A checkedDoor says after how many probes each scan opens a door: null if it
// never does.
type checkedDoor struct {
	Name       string   `json:"name"`
	Services   []string `json:"services"`
	Knocks     int      `json:"knocks"`
	Users      int      `json:"users"` // whose keys open it
	Ascending  *float64 `json:"ascending"`
	Descending *float64 `json:"descending"`
	Random     *float64 `json:"random"` // on average
}

// check looks at the policy as the backend will run it; nil is the one that "up" would use.
func (s *session) check(b firewall.Backend, scan automaton.Scan, at look) error {
	var survey backends.Survey
	if at == lookHere || b == nil {
		survey = backends.Look(s.backends)
	}
	m, b, err := s.machineFor(b, survey)
	if err != nil {
		return err
	}
	answer := checked{File: s.file, Backend: b.Name(), Rate: scan.Rate, CPUs: scan.CPUs, Doors: scanned(m, scan), timing: preflight.TimingOf(m, b)}
	answer.Timed = answer.timing != preflight.Untimed
	if !s.JSON {
		if _, err := io.WriteString(s.Out, s.checkedText(answer)); err != nil {
			return err
		}
		s.sayScan(answer)
	}
	found := preflight.Policy(m, b)
	if at == lookHere {
		found = preflight.Look(m, b, survey)
	}
	refusing := s.report(found, refuseRisk)
	answer.Warnings = s.Remarks
	if s.JSON {
		if err := s.Answer(answer); err != nil {
			return err
		}
	}
	if refusing > 0 {
		return wouldRefuse(refusing)
	}
	s.sayValid(found)
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
			d.Name, services(m, d), len(d.Knock.Sequence), len(d.Knock.Users),
			probes(ascending[i]), probes(descending[i]), probes(random[i]),
		})
	}
	return doors
}

// checkedText is the table of what scans do.
func (s *session) checkedText(c checked) string {
	t := ui.Table{headCheck}
	for _, d := range c.Doors {
		t = append(t, []string{
			d.Name, d.knocksText(), opensText(d.Ascending), opensText(d.Descending), averageText(d.Random, c.Rate, c.timing),
		})
	}
	var b strings.Builder
	t.Write(&b, s.OutTTY)
	return b.String()
}
