package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/key"
	"postern/internal/preflight"
)

func (s *session) statusCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: shortStatus,
		Long:  longStatus,
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			most := mostRows
			if all {
				most = 0
			}
			return s.status(most)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, flagAll)
	return cmd
}

// mostRows is how many sources a screen shows: under a flood there may be a
// million that are knocking.
const mostRows = 20

// state is the answer of status to programs: all that was read.
type state struct {
	Loaded   bool            `json:"loaded"`
	Backend  string          `json:"backend"`
	RuleSet  string          `json:"rule_set,omitempty"`
	Altered  bool            `json:"altered"` // another program has modified it since
	File     string          `json:"file"`
	Current  *bool           `json:"current"`  // whether the rules are those of the file; null if there is no such policy
	Problems []problem       `json:"problems"` // the lowest code is the exit code
	Pending  *waiting        `json:"pending"`  // null: no rules wait for a confirmation
	Partial  bool            `json:"partial"`  // the kernel holds more progress or grants than were read
	Progress []stateProgress `json:"progress"`
	Grants   []stateGrant    `json:"grants"`
	Keys     []stateKey      `json:"keys"`           // of the devices whose keys open doors
	Tags     *time.Time      `json:"tags,omitempty"` // until when keys open doors without BPF, if nobody loads the next tags
	Early    *stateEarly     `json:"early_drop"`     // null: the policy asks for none, or this host cannot
	Counters []stateCounter  `json:"counters"`
	Warnings []ui.Remark     `json:"warnings"`
}

type stateProgress struct {
	Source string      `json:"source"`
	State  string      `json:"state"`
	Knocks int         `json:"knocks"` // so far; 0 if the state is not of the file
	Doors  []stateDoor `json:"doors"`
	Left   float64     `json:"seconds_left"`

	left time.Duration
}

type stateDoor struct {
	Name   string `json:"name"`
	Of     int    `json:"of"`               // how many knocks it takes
	Closes bool   `json:"closes,omitempty"` // and they close the door
}

type stateGrant struct {
	Source  string  `json:"source"`
	Grant   string  `json:"grant"`
	Door    string  `json:"door"`          // empty if the grant is not of the file
	Service string  `json:"service"`       // the same
	Key     string  `json:"key,omitempty"` // user and device, if one of the source's used a key at the door last
	Left    float64 `json:"seconds_left"`

	left time.Duration
}

type stateKey struct {
	Key  string     `json:"key"` // user and device; the device's number if it is none of the file
	Door string     `json:"door"`
	Last *time.Time `json:"last"` // when it has opened the door last; null: never, or days ago
	From string     `json:"from,omitempty"`
}

type stateEarly struct {
	Interfaces []string `json:"interfaces"` // where packets are dropped early; [] if nowhere
	UDP        bool     `json:"udp"`        // datagrams as well as SYNs
	Packets    uint64   `json:"packets"`    // so many of those that are counted as blocked
}

type stateCounter struct {
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// loaded returns what the kernel runs for backends that have rules loaded; where
// none has, one answer that says so. What cannot be read gets a warning.
func (s *session) loaded(survey backends.Survey) ([]backends.Answer, error) {
	loaded, unread, err := survey.Loaded()
	if unread != nil {
		s.Warn(notInspected(unread))
	}
	return loaded, err
}

func (s *session) status(most int) error {
	survey := backends.Look(s.backends)
	all, err := s.loaded(survey)
	if err != nil {
		return err
	}
	kept, unkept := change.Here().Read()
	if unkept != nil {
		s.Warn(keptUnread(unkept))
	}
	backend, status := all[0].Backend, all[0].Status
	if err := firewall.ReadSources(backend, status); err != nil {
		return err
	}
	if len(all) > 1 {
		s.Warn(twoBackends(all))
	}
	file, err := s.machine(backend)
	m := kept.Runs(backend, status, file)
	noPolicy := errors.Is(err, fs.ErrNotExist)
	nameless := len(status.Progress)+len(status.Grants) > 0
	if m == nil && status.Loaded && (nameless || !noPolicy) {
		s.Warn(namesUnknown(s.file, err))
	}
	answer := describe(backend, status, m)
	answer.File, answer.Pending = s.file, waits(kept)
	if file != nil && status.Loaded {
		current := backend.Digest(file) == status.Digest && !status.Altered
		answer.Current = &current
	}
	switch {
	case !status.Loaded && !noPolicy:
		answer.problem(notRunning(s.file))
	case !status.Loaded && kept.Wanted() != nil && kept.Wanted().Loaded:
		answer.problem(notRunning(kept.Wanted().File))
	case status.Altered:
		answer.problem(modified())
	}
	if status.Loaded {
		answer.problem(s.otherPolicy(all, kept, file, err, status)...)
		if noPolicy && s.file != defaultFile { // a mistyped -f must not look well
			answer.problem(missingFile(s.file))
		}
		if unkept != nil && !errors.Is(unkept, fs.ErrPermission) {
			answer.problem(unknownSaved())
		}
		if status.Keyless && (m == nil || len(m.Tokens) > 0) {
			answer.problem(noKeys(s.file, status, m))
		}
		if ends, soon := tagsEnd(status, time.Now()); soon {
			answer.problem(ends)
		}
		if len(status.Bare) > 0 {
			answer.problem(notVerified(status.Bare))
		}
		if m != nil {
			found := preflight.Look(m, backend, survey)
			answer.problem(aboutHost(found)...)
			for _, f := range found {
				if f.Kind == preflight.SecretMissing {
					s.Warn(ui.AboutFinding(f))
				}
			}
		}
	}
	if !status.Loaded && slices.ContainsFunc(s.backends, verifying) {
		s.Warn(stillVerifies())
	}
	s.warnOfWatchdog()
	answer.Warnings = s.Remarks
	if s.JSON {
		err = s.Answer(answer)
	} else {
		_, err = io.WriteString(s.Out, s.statusText(answer, most))
	}
	if err != nil || len(answer.Problems) == 0 {
		return err
	}
	if !s.JSON {
		for _, p := range answer.Problems {
			s.Warn(p.remark())
		}
	}
	first := answer.Problems[0]
	return &ui.Failure{Code: first.Code, Message: first.Message, Quiet: true, Answered: true}
}

// verifying reports whether tokens are verified for a backend.
func verifying(b firewall.Backend) bool {
	v, able := b.(firewall.KeyVerifier)
	if !able {
		return false
	}
	runs, err := v.Verifying()
	return runs && err == nil
}

// A problem is a reason for status to exit with a code of its own.
type problem struct {
	Code    int      `json:"code"`
	Message string   `json:"message"`
	Hints   []string `json:"hints"`
}

// problem adds problems, the lowest code first.
func (st *state) problem(more ...problem) {
	st.Problems = append(st.Problems, more...)
	slices.SortStableFunc(st.Problems, func(a, b problem) int { return a.Code - b.Code })
}

// otherPolicy returns why what runs is not what the policy file says. The error is
// about reading the file.
func (s *session) otherPolicy(all []backends.Answer, kept change.State, file *automaton.Machine, err error, status *firewall.Status) []problem {
	backend := all[0].Backend
	switch {
	case kept.Pending != nil && kept.Pending.Left() <= 0 && kept.Pending.New.RuleSet == status.Digest:
		return []problem{overdueRules()}
	case len(all) > 1:
		return []problem{severalBackends()}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return []problem{invalidFile(s.file)}
	case file != nil && file.Policy.Backend != "" && string(file.Policy.Backend) != backend.Name():
		return []problem{otherBackend(s.file, string(file.Policy.Backend), backend.Name())}
	case file != nil && backend.Digest(file) != status.Digest:
		return []problem{otherRules(s.file)}
	}
	loaded := change.Saved{Loaded: true, Backend: backend.Name(), RuleSet: status.Digest}
	if w := kept.Wanted(); w != nil && !w.Same(&loaded) {
		return []problem{notSavedRules()}
	}
	return nil
}

// aboutHost returns the findings that mean that hidden services can be reached.
func aboutHost(found []preflight.Finding) []problem {
	codes := map[preflight.Kind]int{
		preflight.BareInterface:   ui.CodeBareInterface,
		preflight.InterfaceIsPort: ui.CodeBareInterface,
		preflight.OpenedByOthers:  ui.CodeOpenedByOthers,
	}
	var problems []problem
	for _, f := range found {
		if code := codes[f.Kind]; code != 0 {
			problems = append(problems, problem{code, f.Message, f.Hints})
		}
	}
	return problems
}

// describe returns what the kernel runs, with names from m, which is nil if there is
// no policy.
func describe(backend firewall.Backend, status *firewall.Status, m *automaton.Machine) state {
	st := state{
		Loaded: status.Loaded, Backend: backend.Name(), RuleSet: status.Digest, Altered: status.Altered, Partial: status.Partial,
		Problems: []problem{}, Progress: []stateProgress{}, Grants: []stateGrant{}, Counters: []stateCounter{},
		Keys: []stateKey{},
	}
	if status.Tags != nil && !status.Keyless {
		st.Tags = &status.Tags.Until
	}
	whole := m != nil && backend.Digest(m) == status.Digest
	states := map[automaton.StateID]stateProgress{} // as they look for any source
	for _, p := range status.Progress {
		if whole && m.State(p.State) == nil {
			continue // it means nothing: it is a decoy, or its door is gone
		}
		row, known := states[p.State]
		if !known {
			row = namedState(p.State, m)
			states[p.State] = row
		}
		row.Source, row.left, row.Left = p.Source.String(), p.Left, p.Left.Seconds()
		st.Progress = append(st.Progress, row)
	}
	names, givers := keyNames(m), firewall.GiversOf(status.Keys)
	for _, k := range status.Keys {
		row := stateKey{Key: names.device(k), Door: names.door(k.Door)}
		for _, o := range k.Opened {
			if row.Last == nil || o.When.After(*row.Last) {
				row.Last, row.From = &o.When, o.Source.String()
			}
		}
		st.Keys = append(st.Keys, row)
	}
	for _, g := range status.Grants {
		if whole && m.Grant(g.ID) == nil {
			continue // its door is gone
		}
		row := stateGrant{Source: g.Source.String(), Grant: idText(uint32(g.ID)), Left: g.Left.Seconds(), left: g.Left}
		if m != nil && m.Grant(g.ID) != nil {
			grant := m.Grant(g.ID)
			row.Door, row.Service = m.Doors[grant.Door].Name, m.Services[grant.Service].String()
			if giver := givers.Of(g, row.Door); giver != nil {
				row.Key = names.device(*giver)
			}
		}
		st.Grants = append(st.Grants, row)
	}
	if e := status.Early; e != nil {
		st.Early = &stateEarly{append([]string{}, e.Interfaces...), e.UDP, e.Packets}
	}
	for _, c := range status.Counters {
		st.Counters = append(st.Counters, stateCounter(c))
	}
	return st
}

// A keyNaming has the names of devices and doors that tokens are of.
type keyNaming struct {
	devices map[key.Device]string
	doors   map[key.Door]string
}

// keyNames returns the names in a machine, which may be nil, and in its keys file.
func keyNames(m *automaton.Machine) keyNaming {
	n := keyNaming{map[key.Device]string{}, map[key.Door]string{}}
	if m == nil || !m.Policy.HasKeys() {
		return n
	}
	ring, _ := m.Keyring() // without it devices have numbers
	for name, k := range ring.Devices {
		n.devices[k.ID] = name
	}
	for i := range m.Doors {
		n.doors[key.DoorID(m.Doors[i].Name)] = m.Doors[i].Name
	}
	return n
}

// device returns the name of a device: the one that the loaded rules have for it.
func (n keyNaming) device(u firewall.KeyUse) string {
	return cmp.Or(u.Name, n.devices[u.Device], u.Device.String())
}

func (n keyNaming) door(d key.Door) string { return cmp.Or(n.doors[d], fmt.Sprintf("%08x", uint32(d))) }

// namedState returns the doors that a state leads to.
func namedState(id automaton.StateID, m *automaton.Machine) stateProgress {
	row := stateProgress{State: idText(uint32(id)), Doors: []stateDoor{}}
	if m == nil || m.State(id) == nil {
		return row
	}
	s := m.State(id)
	row.Knocks = len(s.Path)
	for i := range m.Doors {
		d := &m.Doors[i]
		if sequence := d.Knock.Sequence; s.Begins(sequence) {
			row.Doors = append(row.Doors, stateDoor{Name: d.Name, Of: len(sequence)})
		}
		if sequence := d.Knock.Close; s.Begins(sequence) {
			row.Doors = append(row.Doors, stateDoor{Name: d.Name, Of: len(sequence), Closes: true})
		}
	}
	return row
}

// idText is an id as nft lists it.
func idText(id uint32) string { return fmt.Sprintf("%x:%x", id>>16, id&0xffff) }

// statusText returns the status for a person: at most so many rows of each kind, or
// all of them if most is 0.
func (s *session) statusText(st state, most int) string {
	var b strings.Builder
	b.WriteString(ui.Colour(s.OutTTY, ui.Bold, s.Fold(loadedText(st))) + "\n")
	if st.Tags != nil {
		b.WriteString(s.Fold(tagsText(*st.Tags)) + "\n")
	}
	if st.Pending != nil {
		b.WriteString(s.Fold(st.Pending.text()) + "\n")
	}
	if !st.Loaded {
		return b.String()
	}
	cut := func(n int) int {
		if most > 0 {
			return min(n, most)
		}
		return n
	}
	section := func(t ui.Table, more int) {
		b.WriteString("\n")
		t.Write(&b, s.OutTTY)
		if more > 0 {
			b.WriteString(moreText(more, st.Partial) + "\n")
		}
	}
	if n := len(st.Progress); n > 0 {
		t := ui.Table{headProgress}
		for _, p := range st.Progress[:cut(n)] {
			t = append(t, []string{p.Source, p.text(), leftText(p.left)})
		}
		section(t, n-cut(n))
	}
	if n := len(st.Grants); n > 0 {
		head, keys := headGrants, slices.ContainsFunc(st.Grants, func(g stateGrant) bool { return g.Key != "" })
		if keys {
			head = headKeyGrants
		}
		t := ui.Table{head}
		for _, g := range st.Grants[:cut(n)] {
			row := []string{g.Source, g.doorText(), g.Service, leftText(g.left)}
			if keys {
				row = append(row, g.Key)
			}
			t = append(t, row)
		}
		section(t, n-cut(n))
	}
	used := slices.DeleteFunc(slices.Clone(st.Keys), func(k stateKey) bool { return k.Last == nil })
	slices.SortStableFunc(used, func(a, b stateKey) int { return b.Last.Compare(*a.Last) })
	if n := len(used); n > 0 {
		t := ui.Table{headKeys}
		for _, k := range used[:cut(n)] {
			t = append(t, []string{k.Key, k.Door, k.From, k.Last.Local().Format(time.DateTime)})
		}
		section(t, n-cut(n))
	}
	if st.Partial {
		b.WriteString("\n" + sayPartial + "\n")
	}
	t := ui.Table{headCounters}
	for _, c := range st.Counters {
		t = append(t, []string{counterText(c.Name), fmt.Sprint(c.Packets)})
	}
	if st.Early != nil {
		t = append(t, []string{sayEarly, st.Early.text()})
	}
	if n := len(t) - 1; n > 0 {
		section(t[:1+cut(n)], n-cut(n))
	}
	if len(st.Progress) == 0 && len(st.Grants) == 0 && !st.Partial {
		b.WriteString("\n" + sayNobody + "\n")
	}
	return b.String()
}

// doorText returns the door that made the grant, or the grant's id.
func (g *stateGrant) doorText() string {
	if g.Door == "" {
		return g.Grant
	}
	return g.Door
}

// text returns how far a source is: "ssh 2/3, web 2/4".
func (p *stateProgress) text() string {
	if len(p.Doors) == 0 {
		return p.State
	}
	var doors []string
	for _, d := range p.Doors {
		text := fmt.Sprintf("%s %d/%d", d.Name, p.Knocks, d.Of)
		if d.Closes {
			text += markClosing
		}
		doors = append(doors, text)
	}
	const most = 3
	if more := len(doors) - most; more > 0 {
		doors = append(doors[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(doors, ", ")
}
