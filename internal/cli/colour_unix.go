//go:build unix

package cli

import "os"

func takesColours(f *os.File) bool { return terminal(f) }
