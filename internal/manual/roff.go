package manual

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A writer writes a page with the macros of man(7), which mandoc and groff
// understand alike.
type writer struct {
	strings.Builder
	begun bool // the section has text: the next paragraph begins with blank space
}

// date is how man pages write a day, in UTC: packages are built from a commit, and
// are the same wherever that is done.
const date = "2006-01-02"

func (w *writer) title(p Page, when time.Time, version string) {
	fmt.Fprintf(w, ".TH %s %d %s %s %s\n", quoted(strings.ToUpper(p.Name)), p.Section,
		quoted(when.UTC().Format(date)), quoted("Postern "+version), quoted("Postern manual"))
	w.heading("Name")
	w.line(text(p.Name) + ` \- ` + text(p.Short))
}

func (w *writer) line(roff string) { w.WriteString(roff + "\n") }

// heading writes the heading of a section.
func (w *writer) heading(s string) {
	w.line(".SH " + quoted(strings.ToUpper(s)))
	w.begun = false
}

// subheading writes a heading within a section.
func (w *writer) subheading(s string) {
	w.line(".SS " + quoted(s))
	w.begun = false
}

// apart begins a paragraph.
func (w *writer) apart() {
	if w.begun {
		w.line(".PP")
	}
	w.begun = true
}

// paragraph writes roff lines that are filled.
func (w *writer) paragraph(roff string) {
	w.apart()
	w.line(guarded(roff))
}

// verbatim writes lines that stay as they are, but for the blanks that all of them
// begin with. They are indented, unless they are too wide for that: a terminal of
// 80 columns should hold them.
func (w *writer) verbatim(lines []string) {
	shared, widest := -1, 0
	for _, l := range lines {
		if blanks := len(l) - len(strings.TrimLeft(l, " ")); l != "" && (shared < 0 || blanks < shared) {
			shared = blanks
		}
		widest = max(widest, utf8.RuneCountInString(l))
	}
	w.apart()
	w.line(fmt.Sprintf(".in %+dn\n.nf", max(min(exampleIndent, screen-indent-widest+shared), -indent)))
	for _, l := range lines {
		if l != "" {
			l = l[shared:]
		}
		w.line(guarded(literal(l)))
	}
	w.line(".fi\n.in")
}

// The columns of a terminal that man uses, those before the text, and those before
// an example.
const (
	screen        = 78
	indent        = 7
	exampleIndent = 2
)

// tagged writes an item of a list with its tag, which is roff.
func (w *writer) tagged(tag, roff string) {
	w.begun = true
	w.line(".TP")
	w.line(guarded(tag))
	w.line(guarded(roff))
}

// list writes items one below the other.
func (w *writer) list(items []string) {
	w.begun = true
	for i, roff := range items {
		if i == 1 {
			w.line(".PD 0") // no blank lines
		}
		w.line(`.IP \(bu 2`)
		w.line(guarded(roff))
	}
	w.line(".PD")
}

func bold(roff string) string   { return `\fB` + roff + `\fP` }
func italic(roff string) string { return `\fI` + roff + `\fP` }

// reference returns a reference to a page.
func reference(p Page) string { return fmt.Sprintf("%s(%d)", bold(literal(p.Name)), p.Section) }

// guarded keeps lines from being requests, which begin with a dot or a quote.
func guarded(roff string) string {
	lines := strings.Split(roff, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

var (
	prose = strings.NewReplacer(`\`, `\e`)
	// What people copy must be ASCII, which some formatters make typographic.
	code = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)
)

// text returns running text as roff.
func text(s string) string { return named(prose.Replace(s)) }

// literal returns as roff what people type, or read in a file.
func literal(s string) string { return named(code.Replace(s)) }

// quoted returns an argument of a macro.
func quoted(s string) string { return `"` + strings.ReplaceAll(text(s), `"`, `\(dq`) + `"` }

// named writes characters beyond ASCII by their names.
func named(roff string) string {
	var b strings.Builder
	for _, r := range roff {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}
