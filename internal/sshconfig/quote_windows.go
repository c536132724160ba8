package sshconfig

import "strings"

// Quote joins words to a ProxyCommand. ssh replaces what follows a % in it. Windows
// has no shell in between: the program that is run parts the words by quotes. Some
// versions of ssh want none where there is no need.
func Quote(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strings.ReplaceAll(w, "%", "%%")
		if strings.ContainsAny(w, " \t&()^") || w == "" {
			quoted[i] = `"` + quoted[i] + `"`
		}
	}
	return strings.Join(quoted, " ")
}
