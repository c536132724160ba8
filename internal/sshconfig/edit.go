package sshconfig

import (
	"path/filepath"
	"slices"
	"strings"
)

// A directive is one line of an ssh configuration file.
type directive struct {
	keyword string // in lower case; empty for a comment or an empty line
	args    []string
}

func parse(line string) directive {
	line = strings.Trim(line, " \t\r\n\f")
	if line == "" || line[0] == '#' {
		return directive{}
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		return directive{keyword: strings.ToLower(line)}
	}
	d := directive{keyword: strings.ToLower(line[:end])}
	rest := strings.TrimPrefix(strings.TrimLeft(line[end:], " \t"), "=")
	for rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#'; rest = strings.TrimLeft(rest, " \t") {
		stop := strings.IndexAny(rest, " \t")
		if rest[0] == '"' {
			rest = rest[1:]
			stop = strings.IndexByte(rest, '"')
		}
		if stop < 0 {
			stop = len(rest)
		}
		d.args = append(d.args, rest[:stop])
		rest = strings.TrimPrefix(rest[stop:], `"`)
	}
	return d
}

// begins reports whether the line begins a block.
func (d directive) begins() bool { return d.keyword == "host" || d.keyword == "match" }

// blockName returns the name of the host whose block, and no other's, begins at line
// i; or "". The host's address may follow the name.
func blockName(all []string, i int) string {
	d := parse(all[i])
	switch {
	case d.keyword != "host":
		return ""
	case len(d.args) == 1:
		return d.args[0]
	case len(d.args) != 2:
		return ""
	}
	for _, line := range all[i+1:] {
		switch inner := parse(line); {
		case inner.begins():
			return ""
		case inner.keyword == "hostname" && slices.Equal(inner.args, d.args[1:]):
			return d.args[0]
		}
	}
	return ""
}

// addressOf returns the name of the host, other than h, whose block ssh takes if it
// is called by h's address; or "".
func addressOf(text string, h *Host) string {
	all := lines(text)
	for i := range all {
		if name := blockName(all, i); name != "" && name != h.Name && slices.Contains(parse(all[i]).args, h.Address) {
			return name
		}
	}
	return ""
}

func lines(text string) []string { return slices.Collect(strings.Lines(text)) }

// withBlock returns the text with a host's block, which replaces the one that
// is there or goes to the end. Nothing else changes: comments and empty lines
// after a block's last setting are not part of it.
func withBlock(text string, h *Host) string {
	all := lines(text)
	first := 0
	for first < len(all) && blockName(all, first) != h.Name {
		first++
	}
	if first == len(all) {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + "\n" + h.Block()
	}
	end := first + 1
	for i := end; i < len(all) && !parse(all[i]).begins(); i++ {
		if parse(all[i]).keyword != "" {
			end = i + 1
		}
	}
	return strings.Join(all[:first], "") + h.Block() + strings.Join(all[end:], "")
}

// included returns the user's configuration with our file included in its first
// line, unless it already includes it before the first block.
func included(text, folder string) string {
	ours := []string{fileName, "~/.ssh/" + fileName, filepath.Join(folder, fileName)}
	for line := range strings.Lines(text) {
		d := parse(line)
		if d.begins() {
			break
		}
		if d.keyword == "include" && slices.ContainsFunc(d.args, func(a string) bool { return slices.Contains(ours, a) }) {
			return text
		}
	}
	end := "\n"
	if first, _, found := strings.Cut(text, "\n"); found && strings.HasSuffix(first, "\r") {
		end = "\r\n"
	}
	return "Include " + fileName + end + text
}

// blocks returns the names of the hosts that have a block of their own.
func blocks(text string) []string {
	var names []string
	all := lines(text)
	for i := range all {
		if name := blockName(all, i); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// lineNaming returns the number of the first line, counted from 1, that begins a
// block which names the host, or 0. Patterns are not expanded.
func lineNaming(text, name string) int {
	for i, line := range lines(text) {
		if d := parse(line); d.keyword == "host" && slices.Contains(d.args, name) {
			return i + 1
		}
	}
	return 0
}
