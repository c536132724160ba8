package ui

// This file holds the voice, and those named *_text.go what it says: what a person
// reads comes from there, and from nowhere else in this package. (Diagnostics and
// errors of the packages below bring their own.)
//
//   - Standard output is data, and nothing else: what was asked for, as a table or
//     as JSON.
//   - Everything else is talk and goes to standard error: lower-case, a line at a
//     time, each beginning with "postern:", without a final period.
//   - "error:" says what went wrong, "warning:" what may, "hint:" what to do about
//     it; "note:" says what is right and good to know. What the user wrote is quoted.
//   - What is about a line of the policy is shown as compilers do it, beginning with
//     file:line:column, so that editors find the place.
//   - With --json there is no talk: what would be said is in the answer.
//   - Colour helps on a terminal and says nothing by itself. NO_COLOR turns it off.
//   - We never say that knocking makes a service safe. It hides it.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"postern/internal/policy"
)

// A Voice speaks to the person, or the program, that runs us.
type Voice struct {
	Out, Err io.Writer
	OutTTY   bool // may be coloured
	ErrTTY   bool
	JSON     bool
	Remarks  []Remark // the warnings so far
}

// A Remark is a warning, or a note of what is as it should be.
type Remark struct {
	Message string   `json:"message"`
	Note    bool     `json:"note,omitempty"`
	Hints   []string `json:"hints,omitempty"`
	File    string   `json:"file,omitempty"`
	Line    int      `json:"line,omitempty"`
	Column  int      `json:"column,omitempty"`

	text string // a diagnostic's, which shows the line
}

func NewVoice(out, err *os.File) Voice {
	return Voice{Remarks: []Remark{}, Out: out, Err: err, OutTTY: TakesColour(out), ErrTTY: TakesColour(err)}
}

// TakesColour tells whether a file is a terminal that may be written to in colour.
func TakesColour(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return takesColours(f)
}

// IsTerminal tells whether a file is a terminal.
func IsTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd()))
}

// The colours, as terminals take them.
const (
	plain  = "\x1b[0m"
	Bold   = "\x1b[1m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	faint  = "\x1b[2m"

	WhiteOnBlack = "\x1b[97;40m"
)

// Colour puts text into a colour where the terminal has any.
func Colour(tty bool, how, text string) string {
	if !tty {
		return text
	}
	return how + text + plain
}

// Say talks.
func (v *Voice) Say(format string, args ...any) {
	if !v.JSON {
		fmt.Fprintf(v.Err, "postern: "+format+"\n", args...)
	}
}

func (v *Voice) Hint(text string) { v.Say("%s %s", Colour(v.ErrTTY, Bold, "hint:"), text) }

// Warn gives remarks: at once to a person, with the answer to a program.
func (v *Voice) Warn(remarks ...Remark) {
	v.Remarks = append(v.Remarks, remarks...)
	if v.JSON {
		return
	}
	for _, r := range remarks {
		label := Colour(v.ErrTTY, yellow, "warning:")
		if r.Note {
			label = Colour(v.ErrTTY, faint, "note:")
		}
		if r.text != "" {
			fmt.Fprintln(v.Err, r.text)
			continue
		}
		v.Say("%s %s", label, r.Message)
		for _, h := range r.Hints {
			v.Hint(h)
		}
	}
}

// AboutLine makes a remark of a diagnostic.
func AboutLine(d policy.Diagnostic) Remark {
	r := Remark{Message: d.Message, File: d.File, Line: d.Line, Column: d.Column}
	if d.Hint != "" {
		r.Hints = []string{d.Hint}
	}
	d.Message = "warning: " + d.Message
	r.text = d.String()
	return r
}

// Fail says what went wrong, and gives the exit code.
func (v *Voice) Fail(f *Failure) int {
	if v.JSON && !f.Answered {
		v.Answer(struct {
			Error *Failure `json:"error"`
		}{f})
		return f.Code
	}
	if v.JSON || f.Quiet {
		return f.Code
	}
	for _, d := range f.Diagnostics {
		fmt.Fprintln(v.Err, d)
	}
	v.Say("%s %s", Colour(v.ErrTTY, red, "error:"), f.Message)
	for _, h := range f.Hints {
		v.Hint(h)
	}
	return f.Code
}

// Answer writes an answer as JSON.
func (v *Voice) Answer(value any) error {
	e := json.NewEncoder(v.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// Count is a number of things: "1 door", "2 doors".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// List is "a", "a and b", "a, b and c"; of many, the first few.
func List(all []string) string {
	const most = 8
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}
