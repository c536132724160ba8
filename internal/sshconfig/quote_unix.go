//go:build unix

package sshconfig

import "strings"

// Quote joins words to a ProxyCommand. ssh replaces what follows a % in it, and has
// the user's own shell run it. That may be a csh or a fish as well, so quoted is what
// all of them understand alike: a backslash, a quote and a ! are never inside quotes.
func Quote(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(strings.ReplaceAll(w, "%", "%%"))
	}
	return strings.Join(quoted, " ")
}

func quote(word string) string {
	if word != "" && strings.Trim(word, harmless) == "" {
		return word
	}
	var b strings.Builder
	open := false
	within := func(quotes bool) {
		if open != quotes {
			b.WriteByte('\'')
			open = quotes
		}
	}
	for _, r := range []byte(word) {
		if strings.IndexByte(`'\!`, r) >= 0 {
			within(false)
			b.WriteByte('\\')
		} else {
			within(true)
		}
		b.WriteByte(r)
	}
	if word == "" {
		return "''"
	}
	within(false)
	return b.String()
}

// harmless are the characters that mean themselves in every shell. (A % does by now.)
const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./+,:@%"
