package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDiagnose points into a valid policy, as a lint does.
func TestDiagnose(t *testing.T) {
	p, err := Parse("etc/policy.yaml", []byte(`version: 1
posture: closed
allow:
  - {service: tcp/1234, from: "192.0.2.1"} # the office
  - service: tcp/2345
doors:
  "ssh":
    service: tcp/22
    knock: {sequence: [1234, "2345", udp/53]}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, at := range append([]Position{p.Allow[0].Pos, p.Allow[1].Pos, p.Doors[0].Pos}, p.Doors[0].Knock.SequencePos...) {
		got = append(got, p.Diagnose(at, "look here", "and there").String())
	}
	want := `etc/policy.yaml:4:5: look here
      - {service: tcp/1234, from: "192.0.2.1"} # the office
        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
hint: and there
etc/policy.yaml:5:5: look here
      - service: tcp/2345
        ^^^^^^^
hint: and there
etc/policy.yaml:7:3: look here
      "ssh":
      ^^^^^
hint: and there
etc/policy.yaml:9:24: look here
        knock: {sequence: [****, "****", udp/**]}
                           ^^^^
hint: and there
etc/policy.yaml:9:30: look here
        knock: {sequence: [****, "****", udp/**]}
                                 ^^^^^^
hint: and there
etc/policy.yaml:9:38: look here
        knock: {sequence: [****, "****", udp/**]}
                                         ^^^^^^
hint: and there`
	if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDiagnoseAnywhere points at places that are not in the file.
func TestDiagnoseAnywhere(t *testing.T) {
	p, err := Parse("policy.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	last := strings.Count(minimal, "\n")
	for _, c := range []struct {
		at                  Position
		line, column, width int
	}{
		{Position{}, 1, 1, len("version")},
		{Position{Line: -1, Column: -1}, 1, 1, len("version")},
		{Position{Line: 1, Column: 1000}, 1, len("version: 1") + 1, 1},
		{Position{Line: 1000, Column: 1}, last, len("    knock: {sequence: [1234, 2345, 3456]}") + 1, 1},
	} {
		if d := p.Diagnose(c.at, "m", "h"); d.Line != c.line || d.Column != c.column || d.Width != c.width {
			t.Errorf("%+v: got %d:%d width %d, want %d:%d width %d", c.at, d.Line, d.Column, d.Width, c.line, c.column, c.width)
		}
	}
	// A policy built in code has no text.
	d := new(Policy).Diagnose(Position{Line: 3, Column: 4}, "wrong", "fix it")
	if got := d.String(); got != "3:4: wrong\nhint: fix it" {
		t.Errorf("got %q", got)
	}
}

func TestDiagnosticJSON(t *testing.T) {
	e := refused(t, "version: 1\nposture: \tclosd\ndoors: {d: {service: 1, knock: {sequence: [2]}}}\n")
	got, err := json.Marshal(e.Diagnostics)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"file":"policy.yaml","line":2,"column":11,"width":5,"message":"posture cannot be \"closd\"",` +
		`"hint":"did you mean closed? it is one of closed, guard","source":"posture: \tclosd"}]`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var back []Diagnostic
	if err := json.Unmarshal(got, &back); err != nil || cmp.Diff(e.Diagnostics, back) != "" {
		t.Errorf("it does not come back the same: %v\n%s", err, cmp.Diff(e.Diagnostics, back))
	}
}
