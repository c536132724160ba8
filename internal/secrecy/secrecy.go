// Package secrecy keeps what this process knows from other users of the machine.
// On systems other than Linux its functions do nothing.
package secrecy

import "strings"

// Arguments returns a copy of the arguments that the program was called with, and
// masks the originals if a verb among them takes knocks or keys: what ps shows then
// are stars in the place of digits, and of all that follows "key=", as in a link.
// From the start of the process until here it shows them.
func Arguments(args []string, verbs ...string) []string {
	own, secret := make([]string, len(args)), false
	for i, arg := range args {
		own[i] = strings.Clone(arg)
		for _, verb := range verbs {
			secret = secret || arg == verb
		}
	}
	if secret {
		for _, arg := range args {
			mask(arg)
		}
	}
	return own
}
