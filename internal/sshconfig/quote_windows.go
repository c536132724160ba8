package sshconfig

import (
	"path/filepath"
	"strings"
)

// Quote joins words to a ProxyCommand. ssh expands % in it. Windows' own ssh
// runs it without a shell, and some of its versions fail on needless quotes.
// Git's ssh uses a shell, in which a backslash is not part of a path. Both
// accept paths with slashes.
func Quote(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strings.ReplaceAll(filepath.ToSlash(w), "%", "%%")
		if strings.ContainsAny(w, " \t&()^") || w == "" {
			quoted[i] = `"` + quoted[i] + `"`
		}
	}
	return strings.Join(quoted, " ")
}
