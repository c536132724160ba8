// Package examples holds policies to start from. Its tests keep them valid.
package examples

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// parse parses a policy that must be valid and without warnings.
func parse(t *testing.T, name string, text []byte) *policy.Policy {
	t.Helper()
	p, err := policy.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Lint() {
		t.Error(d)
	}
	return p
}

var knockLine = regexp.MustCompile(`(?m)^#? *postern knock \S+ ([\d: a-z]+?)(?: &&.*)?$`)

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := parse(t, file, text)
			knockLinesOpenDoors(t, text, p)
		})
	}
}

// The commands in the comments must be the knocks of a door.
func knockLinesOpenDoors(t *testing.T, text []byte, p *policy.Policy) {
	t.Helper()
	commands := knockLine.FindAllSubmatch(text, -1)
	if len(commands) == 0 {
		t.Error("no comment says how to knock")
	}
	for _, command := range commands {
		var knocks []string
		for _, word := range strings.Fields(string(command[1])) {
			number, protocol, given := strings.Cut(word, ":")
			if !given {
				protocol = "tcp"
			}
			knocks = append(knocks, protocol+"/"+number)
		}
		if !slices.ContainsFunc(p.Doors, func(d policy.Door) bool {
			return slices.EqualFunc(d.Knock.Sequence, knocks, func(p policy.Port, s string) bool { return p.String() == s })
		}) {
			t.Errorf("%q opens no door", command[0])
		}
	}
}

// The README's first policy must work, and open for the README's command.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	document, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("README.md shows no policy")
	}
	knockLinesOpenDoors(t, text, parse(t, "README.md", []byte(document)))
}

// howto.yaml must keep doing what the classic recipe does.
func TestHowto(t *testing.T) {
	text, err := os.ReadFile("howto.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, "howto.yaml", text)
	tcp := func(n uint16) policy.Port { return policy.Port{Protocol: policy.TCP, Number: n} }
	want := policy.Policy{
		Posture:   policy.Closed,
		Cover:     policy.CoverDrop,
		EarlyDrop: policy.DefaultEarlyDrop,
		Doors: []policy.Door{{
			Name:     "ssh",
			Services: []policy.Port{tcp(22)},
			Knock: policy.Knock{
				Sequence:    []policy.Port{tcp(1234), tcp(2345), tcp(3456)},
				StepTimeout: 3 * time.Second,
				Retransmits: policy.RetransmitsReset,
			},
			OpenFor: 10 * time.Second,
			Admit:   policy.AdmitOne,
			Forfeit: true,
			OnClose: policy.OnCloseKeep,
		}},
		Source: policy.Source{IPv4: 32, IPv6: 128},
		Log:    policy.Log{Target: policy.LogKernel, Progress: true},
	}
	d := &p.Doors[0]
	p.Log.ProgressPos = policy.Position{}
	d.Pos, d.OpenForPos, d.Knock.SequencePos, d.Knock.StepTimeoutPos = policy.Position{}, policy.Position{}, nil, policy.Position{}
	if diff := cmp.Diff(want, *p, cmpopts.IgnoreUnexported(policy.Policy{}), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
