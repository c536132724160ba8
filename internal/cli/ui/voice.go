package ui

// The rules for everything that a person reads:
//
//   - Standard output is data and nothing else: what the user asked for, as a table
//     or as JSON.
//   - Messages go to standard error, one a line: "postern:" first, lower-case, no
//     final period.
//   - "error:" is what went wrong, "warning:" what may go wrong, "hint:" what to do
//     about it, "note:" what is fine and good to know. What the user wrote is quoted.
//   - A message about a line of the policy begins with file:line:column, as a
//     compiler's does, so that editors find the place. It names no knock, and shows
//     the line with them only on a terminal: other places may be logs.
//   - With --json there are no messages: they are in the answer.
//   - Colour helps on a terminal, and no meaning depends on it. NO_COLOR turns it off.
//   - No text says that knocking makes a service safe. It hides the service.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"postern/internal/lazyregexp"
	"postern/internal/paragraph"
	"postern/internal/policy"
	"postern/internal/preflight"
)

// A Voice writes messages and answers, for a person or for a program.
type Voice struct {
	Out, Err io.Writer
	OutTTY   bool     // Out is a terminal that shows colours
	ErrTTY   bool     // and so is Err
	JSON     bool     // a program reads the answer
	Remarks  []Remark // the warnings and notes so far
	columns  int      // of the terminal that Err is; 0 if it is none
	wide     int      // the same of Out
	lines    int      // that were said
}

// A Remark is a warning or a note.
type Remark struct {
	Kind      string   `json:"kind,omitempty"` // of a finding; see docs/findings.md
	Message   string   `json:"message"`
	Severity  string   `json:"severity"` // "note", "warning" or "error"; Warn fills it in
	Note      bool     `json:"note,omitempty"`
	Hints     []string `json:"hints,omitempty"`
	File      string   `json:"file,omitempty"`
	Line      int      `json:"line,omitempty"`
	Column    int      `json:"column,omitempty"`
	Table     string   `json:"table,omitempty"` // another rule set
	Chain     string   `json:"chain,omitempty"`
	Interface string   `json:"interface,omitempty"`

	line *policy.Diagnostic // that shows a line of the file; else nil
}

// NewVoice returns a voice that writes to files.
func NewVoice(out, err *os.File) Voice {
	v := Voice{Remarks: []Remark{}, Out: out, Err: err, OutTTY: TakesColour(out), ErrTTY: TakesColour(err)}
	v.columns, _ = v.Screen()
	v.wide, _ = screen(out)
	return v
}

// Screen returns the size of the terminal that shows what is said; zeros if there is
// none.
func (v *Voice) Screen() (columns, rows int) { return screen(v.Err) }

func screen(w io.Writer) (columns, rows int) {
	f, ok := w.(*os.File)
	if !ok || !IsTerminal(f) {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, rows
}

// TakesColour reports whether a file is a terminal that shows colours, and the user
// wants them.
func TakesColour(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return takesColours(f)
}

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd()))
}

// The colours, as ANSI escape sequences.
const (
	plain  = "\x1b[0m"
	Bold   = "\x1b[1m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	faint  = "\x1b[2m"

	WhiteOnBlack = "\x1b[97;40m"
)

// Colour returns text in a colour if the terminal shows colours.
func Colour(tty bool, how, text string) string {
	if !tty {
		return text
	}
	return how + text + plain
}

// Severity returns text in the colour of a severity, if the terminal shows colours.
func Severity(tty bool, text, severity string) string {
	colour := map[string]string{preflight.Note.String(): faint, preflight.Warning.String(): yellow, preflight.Error.String(): red}[severity]
	return Colour(tty && colour != "", colour, text)
}

// Say writes a message.
func (v *Voice) Say(format string, args ...any) {
	if !v.JSON {
		v.print("postern: " + fmt.Sprintf(format, args...))
	}
}

// print writes lines that a person reads. A terminal would break long ones in the
// middle of a word: so they are broken between words, and go on below their text.
// An indented line is quoted from a file, and stays as it is.
func (v *Voice) print(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		if v.columns == 0 || strings.HasPrefix(line, " ") {
			fmt.Fprintln(v.Err, line)
			v.lines++
			continue
		}
		for _, part := range wrap(line, v.columns, continued) {
			fmt.Fprintln(v.Err, part)
			v.lines++
		}
	}
}

// Fold returns a line of prose for standard output. If that is a terminal which would
// break it in the middle of a word, it is broken between words.
func (v *Voice) Fold(line string) string {
	if v.wide == 0 {
		return line
	}
	return strings.Join(wrap(line, v.wide, "  "), "\n")
}

// Lines returns how many lines have been said.
func (v *Voice) Lines() int { return v.lines }

// continued begins the rest of a line.
const continued = "         " // as wide as "postern: "

// escapes are what a terminal does not show.
var escapes = lazyregexp.New("\x1b\\[[0-9;]*m")

// Width returns how many columns a line takes on a terminal.
func Width(line string) int { return utf8.RuneCountInString(escapes().ReplaceAllString(line, "")) }

// wrap breaks a line between words into those that fit; a longer word has a line of
// its own. All but the first begin with indent.
func wrap(line string, columns int, indent string) []string {
	if columns <= 2*len(indent) || Width(line) <= columns {
		return []string{line}
	}
	var lines []string
	current := ""
	for i, word := range strings.Split(line, " ") {
		switch {
		case i == 0:
			current = word
		case Width(current)+1+Width(word) > columns && strings.TrimSpace(current) != "":
			lines = append(lines, current)
			current = indent + word
		default:
			current += " " + word
		}
	}
	return append(lines, current)
}

// Prompt asks a question on a terminal; the answer follows on the same line.
func (v *Voice) Prompt(text string) { fmt.Fprint(v.Err, text) }

// Reprompt writes over a prompt another one of the same width. What has been typed
// behind it stays.
func (v *Voice) Reprompt(text string) {
	if v.ErrTTY { // which understands this
		fmt.Fprint(v.Err, "\x1b7\r"+text+"\x1b8")
	}
}

// Hint writes a hint.
func (v *Voice) Hint(text string) { v.Say("%s %s", Colour(v.ErrTTY, Bold, "hint:"), text) }

// Warn writes remarks at once for a person, and with the answer for a program.
func (v *Voice) Warn(remarks ...Remark) {
	for _, r := range remarks {
		if r.Severity == "" {
			r.Severity = preflight.Warning.String()
			if r.Note {
				r.Severity = preflight.Note.String()
			}
		}
		v.Remarks = append(v.Remarks, r)
		switch {
		case v.JSON:
			continue
		case r.line != nil:
			v.diagnose(*r.line)
			continue
		}
		v.Say("%s %s", Severity(v.ErrTTY, r.Severity+":", r.Severity), r.Message)
		for _, h := range r.Hints {
			v.Hint(h)
		}
	}
}

// AboutFinding returns a finding as a remark.
func AboutFinding(f preflight.Finding) Remark {
	r := Remark{
		Kind: string(f.Kind), Message: f.Message, Severity: f.Severity.String(), Note: f.Severity == preflight.Note, Hints: f.Hints,
		Table: f.Where.Table, Chain: f.Where.Chain, Interface: f.Where.Interface,
	}
	if at := f.Where.Line; at != nil {
		r.File, r.Line, r.Column = at.File, at.Line, at.Column
		line := *at
		line.Message = r.Severity + ": " + line.Message
		r.line = &line
	}
	return r
}

// diagnose writes a diagnostic. Only on a terminal does it show knocks.
func (v *Voice) diagnose(d policy.Diagnostic) {
	if v.columns > 0 {
		v.print(d.Unmasked())
		return
	}
	v.print(d.String())
}

// Fail writes what went wrong, and returns the exit code.
func (v *Voice) Fail(f *Failure) int {
	if v.JSON && !f.Answered {
		v.Answer(struct {
			Error    *Failure `json:"error"`
			Warnings []Remark `json:"warnings,omitempty"` // said before it failed
		}{f, v.Remarks})
		return f.Code
	}
	if v.JSON || f.Quiet {
		return f.Code
	}
	for _, d := range f.Diagnostics {
		v.diagnose(d)
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

// Count returns a number of things: "1 door", "2 doors".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// List returns "a", "a and b" or "a, b and c"; of many, the first eight.
func List(all []string) string { return paragraph.List(all) }
