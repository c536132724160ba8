package document

import "strings"

// Nearest returns the candidate that a mistyped word most likely stands for, or
// "" if none is close.
func Nearest(word string, candidates []string) string {
	if len(word) > 40 { // no key is that long
		return ""
	}
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
	}
	best, least := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if plain(c) == plain(word) {
			return c
		}
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	if best != "" || len(word) < 4 {
		return best
	}
	for _, c := range candidates {
		if strings.Contains(c, plain(word)) { // "timeout" for "step_timeout"
			if best != "" {
				return ""
			}
			best = c
		}
	}
	return best
}

// distance returns the number of edits between two words: letters inserted,
// deleted, replaced, or swapped with their neighbour.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
