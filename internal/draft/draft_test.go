package draft

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"postern/internal/automaton"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// TestText: whatever was decided, the text is a policy that says so, without a
// mistake in it.
func TestText(t *testing.T) {
	drops := []otherrules.Refusal{{Table: "ip filter", Chain: "INPUT", Protocol: policy.TCP}}
	for _, posture := range []policy.Posture{policy.Guard, policy.Closed} {
		for _, services := range [][]policy.Port{{tcp(22)}, {tcp(22), udp(51820)}} {
			for _, allow := range [][]Listener{nil, {{tcp(443), "nginx"}}, {{tcp(8080), ""}, {udp(53), "named"}}} {
				for _, others := range [][]otherrules.Refusal{nil, drops} {
					d := Draft{Posture: posture, Backend: policy.BackendIptables, Door: "ssh", Services: services, Sequence: []policy.Port{tcp(2000), tcp(9000), tcp(5000)}, Allow: allow}
					d.Besides(others)
					t.Run(fmt.Sprintf("%s %v %v beside %q", posture, services, allow, d.Beside), func(t *testing.T) { checkText(t, &d, others != nil) })
				}
			}
		}
	}
}

func checkText(t *testing.T, d *Draft, beside bool) {
	text := d.Text()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width || strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	if d.Posture == policy.Guard { // it takes long, and does not ask for the posture
		for _, l := range m.Lint() {
			t.Error(l)
		}
	}
	door := p.Doors[0]
	if p.Posture != d.Posture || p.Backend != d.Backend || len(p.Doors) != 1 || door.Name != "ssh" ||
		!slices.Equal(door.Services, d.Services) || !slices.Equal(door.Knock.Sequence, d.Sequence) {
		t.Errorf("another policy:\n%s", text)
	}
	var allowed []policy.Port
	for _, a := range p.Allow {
		allowed = append(allowed, policy.Port{Protocol: a.Service.Protocol, Number: a.Service.First})
	}
	if !slices.Equal(allowed, d.Allowed()) {
		t.Errorf("allows %v, want %v", allowed, d.Allowed())
	}
	want := policy.New(d.Posture)
	if beside {
		want.Admitted.Mark, want.Cover = policy.SuggestedMark, policy.CoverDrop
	}
	if p.Admitted != want.Admitted || p.Cover != want.Cover {
		t.Errorf("mark %v, cover %v", p.Admitted, p.Cover)
	}
	usual := policy.NewDoor("ssh")
	if door.OpenFor != usual.OpenFor || door.Admit != usual.Admit || door.Knock.StepTimeout != usual.Knock.StepTimeout {
		t.Errorf("what is written for a default is none:\n%s", text)
	}
}

// TestAllowComments: what the comments say of the ports is so.
func TestAllowComments(t *testing.T) {
	const found, unclear = "programs listen on here", "In use here as well: udp/51820."
	for _, posture := range []policy.Posture{policy.Guard, policy.Closed} {
		d := Draft{Posture: posture, Backend: policy.BackendNftables, Door: "ssh", Services: []policy.Port{tcp(22)},
			Sequence: []policy.Port{tcp(2000), tcp(9000), tcp(5000)}, Allow: []Listener{{tcp(443), ""}}}
		if text := d.Text(); !strings.Contains(text, found) || strings.Contains(text, "In use here") {
			t.Errorf("%s: of what was found it says:\n%s", posture, text)
		}
		d.Idle, d.Unclear = true, []policy.Port{udp(51820)}
		if text := d.Text(); strings.Contains(text, found) || !strings.Contains(text, unclear) {
			t.Errorf("%s: of what was named it says:\n%s", posture, text)
		}
		checkText(t, &d, false)
	}
}

// TestBesides: the cover is what all others answer, if there is such a one.
func TestBesides(t *testing.T) {
	kernel := func(p policy.Protocol) otherrules.Refusal {
		return otherrules.Refusal{Protocol: p, Answer: policy.IdleAnswer(p)}
	}
	drops := otherrules.Refusal{Table: "inet filter", Chain: "input", Protocol: policy.TCP}
	drops6 := drops
	drops6.IPv6 = true
	rejects := drops
	rejects.Answer = policy.IdleAnswer(policy.TCP)
	for _, test := range []struct {
		name     string
		posture  policy.Posture
		refusals []otherrules.Refusal
		cover    policy.Cover
		beside   bool
	}{
		{"alone", policy.Guard, []otherrules.Refusal{kernel(policy.TCP), kernel(policy.UDP)}, "", false},
		{"drops", policy.Guard, []otherrules.Refusal{drops, drops6}, policy.CoverDrop, true},
		{"drops, and closed does", policy.Closed, []otherrules.Refusal{drops, drops6}, "", true},
		{"rejects, as guard does", policy.Guard, []otherrules.Refusal{rejects}, "", true},
		{"drops IPv4 alone", policy.Guard, []otherrules.Refusal{drops, kernel(policy.TCP)}, "", true},
	} {
		d := Draft{Posture: test.posture}
		d.Besides(test.refusals)
		if d.Cover != test.cover || (d.Beside != "") != test.beside {
			t.Errorf("%s: cover %q beside %q", test.name, d.Cover, d.Beside)
		}
	}
}
