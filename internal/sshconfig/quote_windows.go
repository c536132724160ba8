package sshconfig

import (
	"path/filepath"
	"strings"
)

// Quote joins words to a ProxyCommand. ssh replaces what follows a % in it. Windows'
// own ssh has no shell in between, and some versions of it want no quotes where there
// is no need; git's has one, to which a backslash is no part of a path. Both
// take a path with slashes.
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
