// Package lazyregexp has regular expressions that are compiled when they are first used. A
// run of the program uses few of those that its packages have, and a client's knock
// should not wait for the others.
package lazyregexp

import (
	"regexp"
	"sync"
)

// New returns a function that returns the regular expression, which must be valid.
func New(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
