package cli

import (
	"fmt"
	"strings"

	"postern/internal/cli/ui"
	"postern/internal/lazyregexp"
	"postern/internal/paragraph"
)

const (
	shortDoctor = "look at all that may go wrong with the policy on this host"
	longDoctor  = `Says what "postern check" says, also what is well, and looks further: it builds
a copy of this host out of network namespaces (same interfaces, addresses, rules
of other firewalls, listening ports), loads the policy there, and scans it from
outside. Hidden ports must look like unused ones, and each door must open to its
knocks and keys. It never touches the host's own network, and loads nothing into it.

It also looks at who else judges packets and in which order, at how full
connection tracking is, at the clock, and whether the rules survive a reboot.
Where other programs filter packets it prints the lines by which these accept
what a door admits, and nothing else.

Where the loaded rules are not those of the policy, or of its backend, that comes
first. Then the worst comes first. The exit code is 1 if there is an error, and 0 otherwise.
Only root can look at all of it.`
	exampleDoctor = `  postern doctor
  postern doctor -f policy.yaml --json`

	flagScan = "do not scan a copy of this host from outside"

	sayOK       = "ok"
	sayScanning = "scanning a copy of this host from outside; this may take half a minute"
)

func unwell(errors int) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("found %s", ui.Count(errors, "error")), Answered: true}
}

// reportOfOther says that a report is about rules of another backend than runs. Where it is
// not the one that up would use, --backend chose it.
func reportOfOther(runs, about, usual string) problem {
	up := "postern up"
	if about != usual {
		up += " --backend " + about
	}
	return problem{
		Message: fmt.Sprintf("the loaded rules are %s rules; the rest of this is about %s rules, which are not loaded", runs, about),
		Hints: []string{
			fmt.Sprintf("\"%s\" loads them in place of the others", up),
			fmt.Sprintf("\"postern doctor --backend %s\" looks at the policy as %s rules", runs, runs),
		},
	}
}

// examinedText is the report.
func (s *session) examinedText(e examined) string {
	all := bySeverity(e.LookedAt)
	width := 0
	for _, l := range all {
		width = max(width, len(l.Topic))
	}
	var b strings.Builder
	for _, l := range all {
		line := fmt.Sprintf("%s  %-*s  %s", ui.Severity(s.OutTTY, fmt.Sprintf("%-7s", l.Severity), l.Severity), width, l.Topic, l.Seen)
		folded(&b, strings.TrimRight(line, " "), "    ")
		for _, f := range l.Findings {
			at := ""
			if f.File != "" {
				at = fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
			}
			text := at + f.Message
			if len(l.Findings) > 1 || f.Severity != l.Severity {
				text = f.Severity + ": " + text
			}
			indented(&b, "  ", text)
			for _, hint := range f.Hints {
				if command().MatchString(hint) {
					b.WriteString("    hint: " + hint + "\n") // whole, to be copied
					continue
				}
				folded(&b, "    hint: "+hint, "      ")
			}
		}
		for _, line := range l.Lines {
			folded(&b, "  "+line, "    ")
		}
	}
	if len(e.Accept) > 0 {
		b.WriteString("\n" + sayAccept + "\n")
	}
	for _, a := range e.Accept {
		fmt.Fprintf(&b, "%s\n", ui.Colour(s.OutTTY, ui.Bold, a.Program))
		for _, step := range a.Steps {
			b.WriteString("  " + step.Where + "\n")
			for _, line := range step.Lines {
				b.WriteString("    " + line + "\n")
			}
		}
	}
	return b.String()
}

const sayAccept = `Other programs filter packets on this host. These lines have them accept what a
door admits, by its mark, and nothing else. Use those of the program that you
run:`

// command matches a hint that is a command or a rule, or has one outside of quotes.
var command = lazyregexp.New(`^(chmod|chown|nft|ip6?tables|sysctl) |^[^"]* --?[A-Za-z]|ct mark|: \{`)

// quoted matches what is to be copied out of prose.
var quoted = lazyregexp.New(`"[^"]*"|\{[^}]*\}`)

// folded writes a line, and what does not fit on the screen below it. It is broken
// only between words, and neither in a quotation nor in the columns of a table.
func folded(b *strings.Builder, line, indent string) {
	const kept = "\x00" // a blank that stays
	keep := func(text string) string { return strings.ReplaceAll(text, " ", kept) }
	if ui.Width(line) <= ui.Screen+1 {
		b.WriteString(line + "\n")
		return
	}
	text := quoted().ReplaceAllStringFunc(line, keep)
	begin := 0
	if i := strings.LastIndex(text, "  "); i >= 0 {
		begin = i + 2
	}
	first := true
	for part := range strings.SplitSeq(strings.Join(paragraph.Wrap(keep(text[:begin])+text[begin:], ui.Screen-len(indent)), "\n"), "\n") {
		if !first {
			b.WriteString(indent)
		}
		first = false
		b.WriteString(strings.ReplaceAll(part, kept, " ") + "\n")
	}
}

// indented writes a paragraph.
func indented(b *strings.Builder, indent, text string) {
	for i, line := range paragraph.Wrap(text, ui.Screen-len(indent)-2) {
		if i > 0 {
			line = "  " + line
		}
		b.WriteString(indent + line + "\n")
	}
}
