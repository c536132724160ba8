package ui

import (
	"strings"

	"postern/internal/paragraph"
)

// A Table is rows of columns that line up, under a heading.
type Table [][]string

// Write writes the table; the heading is faint where there is colour.
func (t Table) Write(w *strings.Builder, tty bool) {
	for n, line := range paragraph.Columns(t) {
		if n == 0 {
			line = Colour(tty, faint, line)
		}
		w.WriteString(line + "\n")
	}
}
