// Package migrate reads the configuration of another port knocker and writes a
// policy that means the same, with a list of what it could not carry over.
//
// It understands two kinds. Rules of iptables with the match "recent", as
// iptables-save lists them or as the commands of a script, are not looked at for
// familiar names: packets are sent through them on paper (walk.go), the states
// that a source can get into are found by that (states.go), and the doors are read off
// those (doors.go). In the end every door is knocked at on paper from everywhere
// that the rules name (replay.go). A knockd.conf says its sequences, and the services are read
// off the commands that it would run.
//
// A line of the input is either in the policy, or something that Postern does
// by itself, or in the list. The policy that comes out is always valid.
//
// The package is pure: it runs no command and asks the host nothing.
package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/internal/policy"
)

// A Result is what became of a configuration.
type Result struct {
	Kind   Kind
	Policy string // the YAML text of a valid policy
	Left   []Left // what is not in it, in the order of the file
}

// A Kind is what a configuration was written for.
type Kind string

const (
	Rules  Kind = "iptables-save" // rules as iptables-save lists them
	Script Kind = "iptables"      // a script of iptables commands
	Knockd Kind = "knockd"        // a knockd.conf
)

// A Left is a line that the policy does not hold, or holds otherwise.
type Left struct {
	Line int    `json:"line"`
	Text string `json:"text"` // the line, shortened and fit for a terminal
	Why  string `json:"why"`
}

// An UnknownError says that a text is none of the kinds.
type UnknownError struct {
	Name, Reason string
	Remedy       string // empty if it is none of the kinds
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("nothing can be imported from %q: %s", e.Name, e.Reason)
}

// An EmptyError says that a configuration has no door that a policy could have.
type EmptyError struct {
	Name string
	Kind Kind
	Left []Left // why
}

func (e *EmptyError) Error() string {
	what := "these rules have no knocks that open anything"
	if e.Kind == Knockd {
		what = "no section of this knockd.conf can be a door"
	}
	return fmt.Sprintf("nothing can be imported from %q: %s", e.Name, what)
}

// Understood says what Read reads, for a hint.
const Understood = "import reads iptables rules that knock with \"-m recent\" (iptables-save, or a script of commands), and knockd.conf"

// Read writes a policy from a configuration. The name is that of the file, for
// errors, which are an *UnknownError or an *EmptyError.
func Read(name string, text []byte) (*Result, error) {
	kind, err := kindOf(name, text)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimPrefix(string(text), "\ufeff"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	l := &leftovers{lines: lines}
	var d *draft
	if kind == Knockd {
		d = readKnockd(lines, l)
	} else {
		d, err = readRules(lines, l)
	}
	if err != nil {
		return nil, &UnknownError{name, err.Error(), remedyTooLarge}
	}
	p := d.settle(l)
	if p == "" {
		return nil, &EmptyError{name, kind, l.sorted()}
	}
	return &Result{Kind: kind, Policy: p, Left: l.sorted()}, nil
}

// kindOf finds out what a text is, by the first line that tells.
func kindOf(name string, text []byte) (Kind, error) {
	refuse := func(reason string) (Kind, error) { return "", &UnknownError{Name: name, Reason: reason} }
	switch {
	case len(text) > policy.MaxSize:
		return "", &UnknownError{name, "the file is larger than 1 MiB", remedyTooLarge}
	case bytes.IndexByte(text, 0) >= 0, !utf8.Valid(text):
		return refuse("the file is not text")
	case len(bytes.TrimSpace(text)) == 0:
		return refuse("the file is empty")
	}
	section := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, " ")
		key, _, _ := strings.Cut(line, "=")
		switch key = strings.ToLower(strings.TrimSpace(key)); {
		case line == "" || line[0] == '#':
		case len(line) > 1 && line[0] == '*' && builtin[line[1:]] != nil:
			return Rules, nil
		case word == "-A" || word == "-N":
			return Rules, nil
		case strings.HasPrefix(word, "[") && strings.HasSuffix(line, "]"):
			section = true
		case section && slices.Contains([]string{"sequence", "one_time_sequences"}, key):
			return Knockd, nil
		case !section && slices.ContainsFunc(strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t=\"';&|()", r) }), isCommand):
			return Script, nil
		}
	}
	return refuse("it is none of what import reads")
}

// leftovers gathers what is not carried over.
type leftovers struct {
	lines []string
	all   []Left
}

// add notes why a line is not in the policy as it was. The same is said once.
// Line 0 is what no line says: that a built-in chain accepts what its rules leave.
func (l *leftovers) add(line int, format string, args ...any) {
	left := Left{Line: max(line, 1), Why: visible(fmt.Sprintf(format, args...))}
	if line == 0 {
		left.Why = "no line sets the policy of the chain: " + left.Why
	}
	if left.Line <= len(l.lines) {
		left.Text = short(strings.TrimSpace(l.lines[left.Line-1]))
	}
	if !slices.Contains(l.all, left) {
		l.all = append(l.all, left)
	}
}

// join takes in what another list has.
func (l *leftovers) join(other *leftovers) {
	for _, left := range other.all {
		if !slices.Contains(l.all, left) {
			l.all = append(l.all, left)
		}
	}
}

func (l *leftovers) sorted() []Left {
	slices.SortStableFunc(l.all, func(a, b Left) int { return a.Line - b.Line })
	return l.all
}

var errTooLarge = errors.New("these rules are too many, or too tangled, to follow a packet through all of them")

const remedyTooLarge = "cut out what has nothing to do with knocks, lists of addresses first, and import the rest"

// short cuts a line to what a list can show.
func short(text string) string {
	const most = 120
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return visible(text)
}

// visible is text of any origin, fit for a terminal.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsGraphic(r):
			return utf8.RuneError
		}
		return r
	}, text)
}
