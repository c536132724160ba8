package migrate

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Remark is about a line that is not in the policy, or is there otherwise.
type Remark struct {
	Line int    `json:"line"`
	Text string `json:"text"` // the line, shortened and fit for a terminal
	Why  string `json:"why"`
}

// remarks gathers them.
type remarks struct {
	lines []string // of the file
	all   []Remark
}

// add notes why a line is not in the policy as it was. The same is said once.
// Line 0 is what no line says: that a built-in chain accepts what its rules leave.
func (l *remarks) add(line int, format string, args ...any) {
	r := Remark{Line: max(line, 1), Why: visible(fmt.Sprintf(format, args...))}
	if line == 0 {
		r.Why = "no line sets the policy of the chain: " + r.Why
	}
	if r.Line <= len(l.lines) {
		r.Text = short(strings.TrimSpace(l.lines[r.Line-1]))
	}
	if !slices.Contains(l.all, r) {
		l.all = append(l.all, r)
	}
}

// several makes one remark about many lines, at the first of them.
func (l *remarks) several(lines []int, why string) {
	slices.Sort(lines)
	if lines = slices.Compact(lines); len(lines) > 1 {
		why += " (lines " + ranges(lines) + ")"
	}
	if len(lines) > 0 {
		l.add(lines[0], "%s", why)
	}
}

// ranges writes numbers that rise: "2, 4-7 and 9".
func ranges(all []int) string {
	var parts []string
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		part := fmt.Sprint(all[i])
		if j > i {
			part = fmt.Sprintf("%d-%d", all[i], all[j])
		}
		parts, i = append(parts, part), j+1
	}
	last := len(parts) - 1
	if last == 0 {
		return parts[0]
	}
	return strings.Join(parts[:last], ", ") + " and " + parts[last]
}

// join takes in what another list has.
func (l *remarks) join(other *remarks) {
	for _, r := range other.all {
		if !slices.Contains(l.all, r) {
			l.all = append(l.all, r)
		}
	}
}

func (l *remarks) sorted() []Remark {
	slices.SortStableFunc(l.all, func(a, b Remark) int { return a.Line - b.Line })
	return l.all
}

// short cuts text to what a remark can show.
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
