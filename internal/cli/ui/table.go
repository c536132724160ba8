package ui

import (
	"strings"

	"postern/internal/paragraph"
)

// A Table is a heading and rows, whose columns line up.
type Table [][]string

// Write writes the table. The heading is faint on a terminal that shows colours.
func (t Table) Write(w *strings.Builder, tty bool) {
	for n, line := range paragraph.Columns(t) {
		if n == 0 {
			line = Colour(tty, faint, line)
		}
		w.WriteString(line + "\n")
	}
}
