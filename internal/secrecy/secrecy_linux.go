package secrecy

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mask overwrites what may be a knock or a key in an argument of this process.
// Strings of os.Args are the memory that the kernel shows, on the stack of the
// process, as no other strings are.
func mask(arg string) {
	memory := unsafe.Slice(unsafe.StringData(arg), len(arg))
	key := len(arg)
	if i := strings.Index(arg, "key="); i >= 0 {
		key = i + len("key=")
	}
	for i, c := range memory {
		if c >= '0' && c <= '9' || i >= key {
			memory[i] = '*'
		}
	}
}

// NoDump keeps the memory of this process from other processes of its user, and from a
// core file, however it ends, until it becomes another program. Its files in /proc
// belong to root from then on, so that an ordinary user cannot map the ids of a user
// namespace for its children.
func NoDump() { unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) } // it fails for no process
