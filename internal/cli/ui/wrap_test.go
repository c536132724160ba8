package ui

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	const long = "postern: hint: other packets from your address may arrive between the knocks, of a neighbour behind the same router for example"
	for _, text := range []string{long, "postern: " + strings.Repeat("é", 90) + " and more", strings.Replace(long, "hint:", Bold+"hint:"+plain, 1), "short", ""} {
		for columns := 20; columns < 140; columns++ {
			lines := wrap(text, columns, continued)
			for i, line := range lines {
				shown := escapes().ReplaceAllString(line, "")
				if utf8.RuneCountInString(shown) > columns && strings.Contains(strings.TrimSpace(shown), " ") {
					t.Errorf("at %d columns: %q", columns, shown)
				}
				if i > 0 {
					if !strings.HasPrefix(line, continued) {
						t.Errorf("at %d columns a line begins with %q", columns, line)
					}
					lines[i] = strings.TrimPrefix(line, continued)
				}
			}
			if got := strings.Join(lines, " "); got != text {
				t.Errorf("at %d columns it becomes %q", columns, got)
			}
		}
	}
	if got := wrap(long, 80, continued); len(got) != 2 || got[0] != "postern: hint: other packets from your address may arrive between the knocks, of" {
		t.Errorf("got %q", got)
	}
	// A quoted line stays as it is, and so does all that no terminal shows.
	var said strings.Builder
	v := Voice{Err: &said}
	v.columns = 30
	v.print("policy.yaml:1:1: something that is too long for it\n    source: line that is longer than this\n    ^^^^^^")
	if want := "policy.yaml:1:1: something\n         that is too long for\n         it\n    source: line that is longer than this\n    ^^^^^^\n"; said.String() != want {
		t.Errorf("it says\n%s", &said)
	}
	said.Reset()
	v.columns = 0
	v.Say("%s", long)
	if said.String() != "postern: "+long+"\n" {
		t.Errorf("it says %q", &said)
	}
}

// TestFold: prose on standard output is as it is for a program, and fits for a person.
func TestFold(t *testing.T) {
	const text = "loaded, rule set 1; differs from policy.yaml"
	v := Voice{}
	if got := v.Fold(text); got != text {
		t.Errorf("got %q", got)
	}
	v.wide = 24
	if got, want := v.Fold(text), "loaded, rule set 1;\n  differs from\n  policy.yaml"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
