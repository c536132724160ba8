//go:build unix

package ui

import "os"

func takesColours(f *os.File) bool { return IsTerminal(f) }
