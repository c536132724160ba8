package policy

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the tests got into testdata")

// TestGood reads policies that are right. Each golden is the policy and, in
// "parsed", everything that it means, the defaults filled in.
func TestGood(t *testing.T) {
	golden(t, "good", "parsed", func(t *testing.T, data []byte) string {
		p, err := Parse("policy.yaml", data)
		if err != nil {
			t.Fatalf("this policy is right, and was refused:\n%v", err)
		}
		sound(t, p)
		return dump(p)
	})
}

// TestBad reads policies that are wrong. Each golden is the policy and, in
// "diagnostics", everything that a person is told.
func TestBad(t *testing.T) {
	const least = 60 // of them; a test of an empty folder would prove nothing
	n := golden(t, "bad", "diagnostics", func(t *testing.T, data []byte) string {
		p, err := Parse("policy.yaml", data)
		if err == nil {
			t.Fatalf("this policy is wrong, and was taken as\n%s", dump(p))
		}
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Fatalf("error is a %T, not an *InvalidError: %v", err, err)
		}
		pointed(t, data, invalid)
		return err.Error() + "\n"
	})
	if n < least {
		t.Errorf("%d bad policies, want at least %d", n, least)
	}
}

// golden runs every archive of a folder: what run makes of the file
// policy.yaml (or policy.quoted, a Go string for text that an archive cannot
// hold) must be the file named want.
func golden(t *testing.T, folder, want string, run func(t *testing.T, data []byte) string) int {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens in testdata/%s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.TrimSpace(string(archive.Comment))) == 0 {
				t.Errorf("%s does not say what it is about", file)
			}
			got := run(t, policyIn(t, archive))
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: want, Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) != 2 || archive.Files[1].Name != want {
				t.Fatalf("%s has no second file %q: run the test with -update, and read what it wrote", file, want)
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("%s differs (-want +got); -update writes it anew:\n%s", want, diff)
			}
		})
	}
	return len(files)
}

func policyIn(t *testing.T, archive *txtar.Archive) []byte {
	t.Helper()
	if len(archive.Files) == 0 {
		t.Fatal("the archive has no policy")
	}
	f := archive.Files[0]
	switch f.Name {
	case "policy.yaml":
		return f.Data
	case "policy.quoted":
		text, err := strconv.Unquote(strings.TrimSpace(string(f.Data)))
		if err != nil {
			t.Fatalf("policy.quoted is no Go string: %v", err)
		}
		return []byte(text)
	}
	t.Fatalf("the first file of the archive is %q", f.Name)
	return nil
}

// dump writes a policy out in full, a line for every value.
func dump(p *Policy) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("posture %s, cover %s", p.Posture, p.Cover)
	line("interfaces %q", p.Interfaces)
	line("source ipv4 /%d ipv6 /%d", p.Source.IPv4, p.Source.IPv6)
	line("log %s group %d", p.Log.Target, p.Log.Group)
	for _, a := range p.Allow {
		line("allow %v from %v on %q (%d:%d)", a.Service, a.From, a.Interface, a.Pos.Line, a.Pos.Column)
	}
	for _, d := range p.Doors {
		line("door %s (%d:%d)", d.Name, d.Pos.Line, d.Pos.Column)
		line("  services %v at %v", d.Services, d.Address)
		line("  knocks %v at %v", d.Knock.Sequence, d.Knock.SequencePos)
		line("  step_timeout %v, retransmits %s", d.Knock.StepTimeout, d.Knock.Retransmits)
		line("  open_for %v, admit %s, forfeit %v", d.OpenFor, d.Admit, d.Forfeit)
		line("  forward %v, masquerade %v", d.Forward, d.Masquerade)
		line("  from %v", d.From)
	}
	return b.String()
}

// pointed checks what must hold of any refusal: it says something, every
// diagnostic has a place inside the file and shows the line at that place, and
// they come in the order of the file.
func pointed(t *testing.T, data []byte, e *InvalidError) {
	t.Helper()
	if len(e.Diagnostics) == 0 || len(e.Diagnostics) > maxDiagnostics {
		t.Fatalf("%d diagnostics", len(e.Diagnostics))
	}
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	last := Position{}
	for _, d := range e.Diagnostics {
		if d.Line < 1 || d.Line > len(lines) {
			t.Fatalf("line %d of %d: %+v", d.Line, len(lines), d)
		}
		if d.Line < last.Line || d.Line == last.Line && d.Column < last.Column {
			t.Errorf("%d:%d comes after %d:%d", d.Line, d.Column, last.Line, last.Column)
		}
		last = Position{Line: d.Line, Column: d.Column}
		text := strings.TrimRight(lines[d.Line-1], "\r")
		if d.Source != text && len(data) <= MaxSize {
			t.Errorf("line %d is %q, the diagnostic shows %q", d.Line, text, d.Source)
		}
		length := len([]rune(d.Source))
		if d.Column < 1 || d.Column > length+1 || d.Column-1+d.Width > max(length, d.Column) {
			t.Errorf("column %d width %d in a line of %d: %+v", d.Column, d.Width, length, d)
		}
		if d.Message == "" || d.Hint == "" {
			t.Errorf("no message or no hint: %+v", d)
		}
		if strings.Contains(d.Message+d.Hint, "\n") {
			t.Errorf("more than a line: %+v", d)
		}
		if rendered := d.String(); strings.ContainsFunc(rendered, func(r rune) bool {
			return r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f
		}) {
			t.Errorf("a control character would reach the terminal: %q", rendered)
		}
	}
}
