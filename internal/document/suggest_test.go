package document

import "testing"

func TestNearest(t *testing.T) {
	keys := []string{"service", "step_timeout", "open_for", "from", "forward", "forfeit"}
	for word, want := range map[string]string{
		"service":      "service",
		"servce":       "service",
		"serivce":      "service", // two letters swapped are one mistake
		"STEP-TIMEOUT": "step_timeout",
		"openfor":      "open_for",
		"timeout":      "step_timeout",
		"form":         "from",
		"for":          "", // open_for, forward and forfeit all begin or end so
		"forw":         "forward",
		"f":            "",
		"":             "",
		"password":     "",
		"a word that is far longer than any key of a policy": "",
	} {
		if got := Nearest(word, keys); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ab", 1},
		{"abc", "acb", 1}, {"abcd", "badc", 2}, {"kitten", "sitting", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.b, c.a, got, c.want)
		}
	}
}
