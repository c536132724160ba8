package document

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// A Position is a place in a file. Lines and columns count from 1, columns in
// characters. The zero value is no place.
type Position struct {
	Line, Column int
}

// A Diagnostic is one error in a file, or one warning: the place, and what to
// write instead. Columns and widths count characters, as editors do.
type Diagnostic struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Width   int    `json:"width"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Source  string `json:"source,omitempty"` // the whole line, as written
}

// Diagnose returns a diagnostic for a place in the file. With a nil Source it
// has no source line.
func (s *Source) Diagnose(at Position, message, hint string) Diagnostic {
	if s == nil {
		return Diagnostic{Line: at.Line, Column: at.Column, Message: message, Hint: hint}
	}
	return s.diagnostic(at, "", message, hint)
}

// MaxDiagnostics limits the diagnostics for one file. People fix the first few;
// only a file of another kind has more.
const MaxDiagnostics = 100

// An InvalidError holds everything that is wrong with one file.
type InvalidError struct {
	Kind        string       // the name of the file's FileKind
	Diagnostics []Diagnostic // at least one, in the order of the file
	More        int          // how many were left out
}

func (e *InvalidError) Error() string {
	var b strings.Builder
	for i, d := range e.Diagnostics {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(d.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", e.More)
	}
	return b.String()
}

// String returns the diagnostic as it is printed, without a final newline:
//
//	policy.yaml:12:24: port 70000 is out of range
//	          sequence: [****, *****]
//	                           ^^^^^
//	hint: a port is a number from 1 to 65535
//
// with stars in the place of all knocks in the line.
func (d Diagnostic) String() string { return d.text(masked(d.Source)) }

// text returns the diagnostic with a form of its line.
func (d Diagnostic) text(line string) string {
	d.Source = line
	var b strings.Builder
	if d.File != "" {
		b.WriteString(visible(d.File) + ":")
	}
	fmt.Fprintf(&b, "%d:%d: %s", d.Line, d.Column, d.Message)
	if strings.TrimSpace(d.Source) != "" {
		shown, caret := d.excerpt()
		fmt.Fprintf(&b, "\n    %s\n    %s", shown, caret)
	}
	if d.Hint != "" {
		b.WriteString("\nhint: " + d.Hint)
	}
	return b.String()
}

// A line longer than maxExcerpt characters is cut to that many, beginning
// leadIn characters before the position.
const (
	maxExcerpt = 100
	leadIn     = 40
)

// excerpt returns the source line in a form that is safe for a terminal, and a
// line of carets to print below it. The source may contain anything.
func (d Diagnostic) excerpt() (shown, carets string) {
	line, column := d.Source, max(0, d.Column-1)
	var head, tail string
	if utf8.RuneCountInString(line) > maxExcerpt {
		if skip := column - leadIn; skip > 0 {
			line, column, head = line[offset(line, skip):], leadIn, "…"
		}
		if end := offset(line, maxExcerpt); end < len(line) {
			line, tail = line[:end], "…"
		}
	}

	var text, under strings.Builder
	text.WriteString(head)
	under.WriteString(strings.Repeat(" ", utf8.RuneCountInString(head)))
	n := 0
	for _, r := range line {
		cell, columns := show(r)
		text.WriteString(cell)
		switch {
		case n < column:
			under.WriteString(strings.Repeat(" ", columns))
		case n < column+d.Width:
			under.WriteString(strings.Repeat("^", columns))
		}
		n++
	}
	if n <= column { // one past the end of the line
		under.WriteByte('^')
	}
	text.WriteString(tail)
	return strings.TrimRight(text.String(), " "), under.String()
}

// show returns the form of a character that is safe for a terminal, and how
// many columns it takes there.
func show(r rune) (cell string, columns int) {
	switch {
	case r == '\t':
		return "    ", 4
	case r >= ' ' && r <= '~':
		return string(r), 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return string(r), 0
	case !unicode.IsGraphic(r):
		return string(utf8.RuneError), 1
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return string(r), 2
	}
	return string(r), 1
}

// visible returns text of any origin in a form that is safe for a terminal.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		cell, _ := show(r)
		b.WriteString(cell)
	}
	return b.String()
}

// A finding is a diagnostic before its line is looked up.
type finding struct {
	at            Position
	plain         string // the plain value at that place, if it is one
	message, hint string
}

// invalid returns the error for the findings, or nil if there are none.
func (s *Source) invalid(found []finding) error {
	if len(found) == 0 {
		return nil
	}
	slices.SortStableFunc(found, func(a, b finding) int {
		if a.at.Line != b.at.Line {
			return a.at.Line - b.at.Line
		}
		return a.at.Column - b.at.Column
	})
	e := &InvalidError{Kind: s.language.Name, More: max(0, len(found)-MaxDiagnostics)}
	for _, f := range found[:len(found)-e.More] {
		if s.language.Secrets {
			f.message, f.hint = s.discreet(f.message), s.discreet(f.hint)
		}
		e.Diagnostics = append(e.Diagnostics, s.diagnostic(f.at, f.plain, f.message, f.hint))
	}
	return e
}
