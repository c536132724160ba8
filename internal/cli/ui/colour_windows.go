package ui

import (
	"os"

	"golang.org/x/sys/windows"
)

// takesColours has a terminal take our colours, which older ones of Windows print as
// they are unless told.
func takesColours(f *os.File) bool {
	var mode uint32
	console := windows.Handle(f.Fd())
	return windows.GetConsoleMode(console, &mode) == nil &&
		windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
