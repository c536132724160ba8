package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/draft"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
	"postern/internal/preflight"
	"postern/internal/rewrite"
)

func (s *session) initCommand() *cobra.Command {
	var want wishes
	var backend *string
	cmd := &cobra.Command{
		Use:     "init",
		Short:   shortInit,
		Long:    longInit,
		Example: exampleInit,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if want.knocks < draft.DefaultKnocks || want.knocks > policy.MaxKnocks {
				return &ui.UsageError{Err: fmt.Errorf(sayBadKnocks, draft.DefaultKnocks, policy.MaxKnocks), Cmd: cmd}
			}
			b, err := s.named(*backend, cmd)
			if err != nil {
				return err
			}
			want.print = want.print || s.file == "-"
			want.ask = s.CanAsk(s.stdin) && !want.yes
			if !want.ask && !want.yes && !want.print {
				return &ui.UsageError{Err: errors.New(sayNobodyToAsk), Cmd: cmd}
			}
			err = s.init(b, &want)
			if wrong, ok := errors.AsType[*badWish](err); ok {
				return &ui.UsageError{Err: wrong, Cmd: cmd}
			}
			return err
		},
	}
	cmd.Flags().StringSliceVar(&want.services, "service", nil, flagInitService)
	cmd.Flags().StringVar(&want.posture, "posture", "", flagInitPosture)
	cmd.Flags().StringSliceVar(&want.allow, "allow", nil, flagInitAllow)
	cmd.Flags().IntVar(&want.knocks, "knocks", draft.DefaultKnocks, flagInitKnocks)
	cmd.Flags().BoolVar(&want.yes, "yes", false, flagInitYes)
	cmd.Flags().BoolVar(&want.print, "dry-run", false, flagInitDryRun)
	cmd.Flags().BoolVar(&want.force, "force", false, flagInitForce)
	backend = s.backendFlag(cmd)
	cmd.RegisterFlagCompletionFunc("posture", cobra.FixedCompletions([]string{"guard", "closed"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// wishes are what the flags say about the policy; empty is what the host suggests.
type wishes struct {
	services []string
	posture  string
	allow    []string
	knocks   int

	yes   bool // take what the host suggests
	ask   bool // ask a person
	print bool // the policy, and write nothing
	force bool // replace the file
}

// A badWish is a flag or an answer that is wrong.
type badWish struct{ error }

// drafted is the answer of init to programs.
type drafted struct {
	File     string      `json:"file"`
	Written  bool        `json:"written"`
	Posture  string      `json:"posture"`
	Backend  string      `json:"backend"`
	Door     string      `json:"door"`
	Services []string    `json:"services"`
	Knocks   int         `json:"knocks"`
	Allow    []string    `json:"allow"`
	Policy   string      `json:"policy,omitempty"` // where it is not written
	Warnings []ui.Remark `json:"warnings"`
}

// init writes a policy, for a backend; nil is the one in use.
func (s *session) init(b firewall.Backend, want *wishes) error {
	if !want.print {
		if err := s.mayWrite(want); err != nil {
			return err
		}
	}
	survey := backends.Look(s.backends)
	if b == nil {
		b = survey.InUse()
	}
	here, err := draft.Look()
	if err != nil {
		return err
	}
	d := &draft.Draft{Backend: policy.Backend(b.Name())}
	for _, settle := range []func(*draft.Draft, *draft.Host, *wishes) error{s.settleServices, s.settlePosture, s.settleAllow} {
		if err := settle(d, here, want); err != nil {
			return err
		}
	}
	if d.Sequence, err = draft.Draw(rand.Reader, want.knocks, d.Avoid(here)); err != nil {
		return err
	}
	m, err := s.compiled(d, b)
	if err != nil {
		return err
	}
	d.Besides(here.Refusals(m))
	if m, err = s.compiled(d, b); err != nil {
		return err
	}
	text := d.Text()
	if !want.print {
		if err := writePolicy(s.file, text); err != nil {
			return unwritable(s.file, err)
		}
	} else if !s.JSON {
		if _, err := io.WriteString(s.Out, text); err != nil {
			return err
		}
	}
	return s.answerDraft(d, here, want, preflight.Look(m, b, survey))
}

// compiled compiles a draft as its file will be.
func (s *session) compiled(d *draft.Draft, b firewall.Backend) (*automaton.Machine, error) {
	p, err := policy.Parse(s.file, []byte(d.Text()))
	if err != nil {
		return nil, err
	}
	return b.Machine(p)
}

func (s *session) answerDraft(d *draft.Draft, here *draft.Host, want *wishes, found []preflight.Finding) error {
	s.report(found, refuseRisk)
	if s.JSON {
		answer := drafted{
			File: s.file, Written: !want.print, Posture: string(d.Posture), Backend: string(d.Backend),
			Door: d.Door, Services: portNames(d.Services), Knocks: len(d.Sequence), Allow: portNames(d.Allowed()), Warnings: s.Remarks,
		}
		if want.print {
			answer.Policy = d.Text()
		}
		return s.Answer(answer)
	}
	if !want.print {
		s.sayDrafted(d, here.Address, slices.ContainsFunc(found, func(f preflight.Finding) bool { return f.Severity == preflight.Error }))
	}
	return nil
}

func portNames(ports []policy.Port) []string {
	names := []string{}
	for _, p := range ports {
		names = append(names, p.String())
	}
	return names
}

// settleServices decides what to hide.
func (s *session) settleServices(d *draft.Draft, here *draft.Host, want *wishes) (err error) {
	take := func(words []string) error {
		d.Services, err = ports(words)
		d.Door = here.Door(d.Services)
		return err
	}
	suggested := here.SSH()
	switch {
	case want.services != nil:
		return take(want.services)
	case want.ask:
		s.sayServices(suggested)
		return s.Ask(s.stdin, askServices, strings.Join(portNames(suggested), " "), func(answer string) error {
			return take(words(answer))
		})
	case len(suggested) == 0:
		return &badWish{errors.New(sayNoService)}
	}
	return take(portNames(suggested))
}

// settlePosture decides what happens to other ports.
func (s *session) settlePosture(d *draft.Draft, _ *draft.Host, want *wishes) error {
	take := func(word string) error {
		if d.Posture = policy.Posture(word); d.Posture != policy.Guard && d.Posture != policy.Closed {
			return &badWish{fmt.Errorf(sayBadPosture, word)}
		}
		return nil
	}
	switch {
	case want.posture != "":
		return take(want.posture)
	case want.ask:
		s.Say(sayPostures)
		return s.Ask(s.stdin, askPosture, string(policy.Guard), take)
	}
	return take(string(policy.Guard))
}

// settleAllow decides what needs no knock.
func (s *session) settleAllow(d *draft.Draft, here *draft.Host, want *wishes) error {
	others := here.Others(d.Services)
	unclear := slices.DeleteFunc(slices.Clone(here.Unclear), func(p policy.Port) bool { return slices.Contains(d.Services, p) })
	d.Unclear = unclear
	take := func(words []string) error {
		switch {
		case slices.Equal(words, []string{allowAll}):
			d.Allow = others
			return nil
		case slices.Equal(words, []string{allowNone}):
			return nil
		}
		chosen, err := ports(words)
		if err != nil {
			return err
		}
		d.Allow, d.Idle = nil, false
		for _, p := range chosen {
			if slices.Contains(d.Services, p) {
				return &badWish{fmt.Errorf(sayHiddenAllowed, p)}
			}
			d.Allow = append(d.Allow, here.At(p))
			d.Idle = d.Idle || !here.Listens(p) && !slices.Contains(unclear, p)
		}
		d.Unclear = slices.DeleteFunc(slices.Clone(unclear), func(p policy.Port) bool { return slices.Contains(chosen, p) })
		return nil
	}
	switch {
	case want.allow != nil:
		return take(want.allow)
	case want.ask && d.Posture == policy.Closed && len(others) > 0:
		s.sayListeners(others)
		if len(unclear) > 0 {
			s.sayUnclear(unclear)
		}
		return s.Ask(s.stdin, askAllow, allowAll, func(answer string) error { return take(words(answer)) })
	}
	return take([]string{allowAll})
}

// words splits an answer: "tcp/22, tcp/80".
func words(answer string) []string {
	return strings.FieldsFunc(answer, func(r rune) bool { return r == ',' || r == ' ' })
}

// ports reads TCP and UDP ports, none of them twice.
func ports(words []string) ([]policy.Port, error) {
	var all []policy.Port
	for _, word := range words {
		p, err := policy.ParseService(word)
		if err != nil {
			return nil, &badWish{err}
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, &badWish{errors.New(sayNoService)}
	}
	return all, nil
}

// mayWrite fails early if the file cannot be written, before anybody is asked.
func (s *session) mayWrite(want *wishes) error {
	if s.file == defaultFile && os.Geteuid() != 0 {
		return unwritable(s.file, fs.ErrPermission)
	}
	if _, err := os.Lstat(s.file); err == nil && !want.force {
		return policyExists(s.file)
	}
	return nil
}

// writePolicy writes a file that only its owner can read, in a folder of its own.
func writePolicy(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	_, err := rewrite.File(file, rewrite.Private, func([]byte) ([]byte, error) { return []byte(text), nil })
	return err
}

func unwritable(file string, err error) *ui.Failure {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	f := &ui.Failure{Code: ui.CodeFailed, Message: sayUnwritable(file, err), Err: err}
	if errors.Is(err, fs.ErrPermission) {
		f.Code, f.Hints = ui.CodePrivilege, []string{hintWritePolicy}
	}
	return f
}

// reachableAt returns what to write for how clients reach this host.
func reachableAt(a netip.Addr) string {
	if !a.IsValid() || a.IsLinkLocalUnicast() || a.IsLoopback() {
		return "ADDRESS"
	}
	return a.String()
}
