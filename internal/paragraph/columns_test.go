package paragraph

import (
	"slices"
	"testing"
)

func TestColumns(t *testing.T) {
	for _, test := range []struct {
		name string
		rows [][]string
		want []string
	}{
		{"none", nil, nil},
		{"one cell", [][]string{{"DOOR"}}, []string{"DOOR"}},
		{"the widest may be any", [][]string{{"DOOR", "OPENS"}, {"ssh", "never"}, {"a-long-name", "1"}},
			[]string{"DOOR         OPENS", "ssh          never", "a-long-name  1"}},
		{"by characters", [][]string{{"µs", "x"}, {"abc", "y"}}, []string{"µs   x", "abc  y"}},
		{"an empty cell at the end", [][]string{{"a", "b"}, {"cc", ""}}, []string{"a   b", "cc"}},
		{"an empty cell between", [][]string{{"a", "b", "c"}, {"d", "", "f"}}, []string{"a  b  c", "d     f"}},
		{"rows of several lengths", [][]string{{"a", "b"}, {"longer"}, {"c", "dd", "e"}},
			[]string{"a       b", "longer", "c       dd  e"}},
	} {
		if got := Columns(test.rows); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
