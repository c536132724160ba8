package document

// QuotedPath returns the path of a file in quotes. A backslash stays as it is, as
// it parts the folders of Windows; what a terminal would take for a command is
// made visible.
func QuotedPath(path string) string { return `"` + visible(path) + `"` }
