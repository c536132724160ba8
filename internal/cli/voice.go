package cli

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

// A voice speaks to the person, or the program, that runs us.
type voice struct {
	out, err io.Writer
	outTTY   bool // may be coloured
	errTTY   bool
	json     bool
	remarks  []remark // the warnings so far
}

// A remark is a warning, or a note of what is as it should be.
type remark struct {
	Message string   `json:"message"`
	Note    bool     `json:"note,omitempty"`
	Hints   []string `json:"hints,omitempty"`
	File    string   `json:"file,omitempty"`
	Line    int      `json:"line,omitempty"`
	Column  int      `json:"column,omitempty"`

	text string // a diagnostic's, which shows the line
}

func newVoice(out, err *os.File) voice {
	return voice{remarks: []remark{}, out: out, err: err, outTTY: colourful(out), errTTY: colourful(err)}
}

// colourful tells whether a file is a terminal that may be written to in colour.
func colourful(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return takesColours(f)
}

// terminal tells whether a file is a terminal.
func terminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd()))
}

// The colours, as terminals take them.
const (
	plain  = "\x1b[0m"
	bold   = "\x1b[1m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	faint  = "\x1b[2m"

	whiteOnBlack = "\x1b[97;40m"
)

// colour puts text into a colour where the terminal has any.
func colour(tty bool, how, text string) string {
	if !tty {
		return text
	}
	return how + text + plain
}

// say talks.
func (v *voice) say(format string, args ...any) {
	if !v.json {
		fmt.Fprintf(v.err, "postern: "+format+"\n", args...)
	}
}

func (v *voice) hint(text string) { v.say("%s %s", colour(v.errTTY, bold, "hint:"), text) }

// warn gives remarks: at once to a person, with the answer to a program.
func (v *voice) warn(remarks ...remark) {
	v.remarks = append(v.remarks, remarks...)
	if v.json {
		return
	}
	for _, r := range remarks {
		label := colour(v.errTTY, yellow, "warning:")
		if r.Note {
			label = colour(v.errTTY, faint, "note:")
		}
		if r.text != "" {
			fmt.Fprintln(v.err, r.text)
			continue
		}
		v.say("%s %s", label, r.Message)
		for _, h := range r.Hints {
			v.hint(h)
		}
	}
}

// aboutLine makes a remark of a diagnostic.
func aboutLine(d policy.Diagnostic) remark {
	r := remark{Message: d.Message, File: d.File, Line: d.Line, Column: d.Column}
	if d.Hint != "" {
		r.Hints = []string{d.Hint}
	}
	d.Message = "warning: " + d.Message
	r.text = d.String()
	return r
}

// fail says what went wrong, and gives the exit code.
func (v *voice) fail(f *failure) int {
	if v.json && !f.answered {
		v.answer(struct {
			Error *failure `json:"error"`
		}{f})
		return f.Code
	}
	if v.json || f.quiet {
		return f.Code
	}
	for _, d := range f.Diagnostics {
		fmt.Fprintln(v.err, d)
	}
	v.say("%s %s", colour(v.errTTY, red, "error:"), f.Message)
	for _, h := range f.Hints {
		v.hint(h)
	}
	return f.Code
}

// answer writes an answer as JSON.
func (v *voice) answer(value any) error {
	e := json.NewEncoder(v.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// count is a number of things: "1 door", "2 doors".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// list is "a", "a and b", "a, b and c"; of many, the first few.
func list(all []string) string {
	const most = 8
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}
