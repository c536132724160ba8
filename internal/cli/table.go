package cli

import (
	"strings"

	"postern/internal/paragraph"
)

// A table is rows of columns that line up, under a heading.
type table [][]string

// write writes the table; the heading is faint where there is colour.
func (t table) write(w *strings.Builder, tty bool) {
	for n, line := range paragraph.Columns(t) {
		if n == 0 {
			line = colour(tty, faint, line)
		}
		w.WriteString(line + "\n")
	}
}
