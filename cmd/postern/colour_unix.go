//go:build unix

package main

import "os"

func takesColours(f *os.File) bool { return terminal(f) }
