package paragraph

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Columns returns each row as a line in which the cells of a column are aligned.
// Rows may have different lengths. No line ends in blanks.
//
// It is text/tabwriter with two rules added: a short row does not end a column,
// and no blanks are left after the last cell.
func Columns(rows [][]string) []string {
	if len(rows) == 0 {
		return nil
	}
	cells := 0
	for _, row := range rows {
		cells = max(cells, len(row))
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t")+strings.Repeat("\t", cells-len(row)))
	}
	w.Flush()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}
