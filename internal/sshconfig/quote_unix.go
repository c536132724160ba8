//go:build unix

package sshconfig

import "strings"

// Quote joins words to a ProxyCommand. ssh expands % in it and runs it by the
// user's shell. That may be csh or fish, so Quote uses only what all shells
// read alike: a backslash, a quote and a ! are never inside quotes.
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

// harmless are the characters without a special meaning in any shell. (% has
// been doubled by now.)
const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./+,:@%"
