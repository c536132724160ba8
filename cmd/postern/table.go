package main

import (
	"strings"
	"unicode/utf8"
)

// A table is rows of columns that line up, under a heading.
type table [][]string

// write writes the table; the heading is faint where there is colour.
func (t table) write(w *strings.Builder, tty bool) {
	var widths []int
	for _, row := range t {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range t {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		line := strings.TrimRight(b.String(), " ")
		if n == 0 {
			line = colour(tty, faint, line)
		}
		w.WriteString(line + "\n")
	}
}
