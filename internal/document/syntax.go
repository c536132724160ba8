package document

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// A rewording replaces a message of the YAML parser by one in our terms.
type rewording struct {
	match   string // part of the reader's message
	within  string // part of its context; empty is any
	message string
	hint    string
	// opening: report the position where the construct began, if that is on an
	// earlier line than where the parser noticed
	opening bool
}

// In messages and hints, $name, $levels and $mapping stand for the fields of
// the FileKind.
var rewordings = []rewording{
	{
		match:   "mapping values are not allowed",
		message: "a \":\" is not allowed here",
		hint:    "indent a key like its neighbours, and put a value that contains \": \" in quotes",
	},
	{
		match:   "did not find expected ',' or ']'",
		message: "this list has no \"]\", or lacks a comma",
		hint:    "write a list as [1234, 2345]",
		opening: true,
	},
	{
		match:   "did not find expected ',' or '}'",
		message: "this mapping has no \"}\", or lacks a comma",
		hint:    "write a mapping as $mapping",
		opening: true,
	},
	{
		match:   "did not find expected key",
		message: "a key is expected here",
		hint:    "write \"key: value\", indented like the keys above",
	},
	{
		match:   "did not find expected '-' indicator",
		message: "another item of the list is expected here",
		hint:    "begin every item with \"- \", indented like the items above",
	},
	{
		match:   "could not find expected ':'",
		message: "this line has no \":\"",
		hint:    "write \"key: value\"",
		opening: true,
	},
	{
		match:   "block sequence entries are not allowed",
		message: "a \"-\" is not allowed here",
		hint:    "begin the list on a line of its own, or write it as [1234, 2345]",
	},
	{
		match:   "found unexpected end of stream",
		within:  "quoted scalar",
		message: "this quote is never closed",
		hint:    "close it on the same line",
		opening: true,
	},
	{
		match:   "found unknown escape character",
		message: "an unknown escape in a quoted value",
		hint:    "use single quotes to write a backslash as it is",
	},
	{
		match:   "tab",
		message: "a tab cannot indent a line",
		hint:    "indent with spaces",
	},
	{
		match:   "cannot start any token",
		message: "a value cannot begin with this character",
		hint:    "put the value in quotes",
	},
	{
		match:   "exceeded max depth",
		message: "the file is nested too deeply",
		hint:    "a $name has no more than $levels: look for brackets that are not closed",
	},
	{
		match:   "did not find expected <document start>",
		message: "the $name has ended before this line",
		hint:    "indent this line like the first key of the file",
	},
	{
		match:   "did not find expected node content",
		message: "a value is expected here",
		hint:    "write the value, and close every bracket",
	},
	{
		match:   "incompatible YAML document",
		message: "this %YAML line is not understood",
		hint:    "remove it",
	},
	{
		match:   "directive",
		message: "a line that begins with % is not understood",
		hint:    "remove it",
	},
	{
		match:   "comment without preceding whitespace",
		message: "a comment cannot begin here",
		hint:    "put a space before the \"#\"",
	},
	{
		match:   "alphabetic or numeric character",
		message: "a \"&\" or \"*\" is not allowed here",
		hint:    "put a value that begins with it in quotes",
	},
	{
		match:   "tag",
		message: "a tag is not allowed",
		hint:    "remove it, or put a value that begins with \"!\" in quotes",
	},
	{
		match:   "unknown anchor",
		message: "an alias is not allowed, and this one is not defined",
		hint:    "write the value out, or put it in quotes if it begins with a \"*\"",
	},
}

// genericHint is the hint for everything else.
const genericHint = "write \"key: value\" lines, and put values with unusual characters in quotes"

// syntax turns the parser's error, for text that is not YAML, into a finding.
// The parser stops at the first one.
func (s *Source) syntax(err error) finding {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return finding{message: "this is not YAML: " + visible(err.Error()), hint: genericHint}
	}
	noticed := Position{Line: load.Mark.Line, Column: load.Mark.Column}
	began := Position{Line: load.ContextMark.Line, Column: load.ContextMark.Column}

	for _, r := range rewordings {
		if !strings.Contains(load.Message, r.match) || !strings.Contains(load.ContextMsg, r.within) {
			continue
		}
		f := finding{at: noticed, message: s.language.fill(r.message), hint: s.language.fill(r.hint)}
		if r.opening && began.Line > 0 && s.clamp(began).Line < s.clamp(noticed).Line {
			f.at = began
		}
		return s.refine(f)
	}
	return finding{at: noticed, message: "this is not YAML: " + visible(load.Message), hint: genericHint}
}

// fill inserts the words of a kind of file into a text.
func (l *FileKind) fill(text string) string {
	return strings.NewReplacer("$name", l.Name, "$levels", l.MaxNesting, "$mapping", l.Mapping).Replace(text)
}

// refine recognizes frequent mistakes in our files that the YAML parser cannot
// name.
func (s *Source) refine(f finding) finding {
	at := s.clamp(f.at)
	line, rest := s.line(at.Line), s.from(at)
	before := line[:len(line)-len(rest)]
	switch {
	case strings.HasPrefix(rest, "\t"):
		f.message, f.hint = "a tab cannot indent a line", "indent with spaces"
	case strings.HasPrefix(rest, ":") && strings.HasSuffix(before, "]"):
		open := max(0, strings.LastIndexByte(before, '['))
		f.at.Column -= utf8.RuneCountInString(before[open:])
		f.message = "an address in brackets is a list to YAML"
		f.hint = fmt.Sprintf("put it in quotes: \"%s\"", Short(before[open:]+rest[:tokenLength(rest)]))
	case strings.HasPrefix(rest, ":") && at.Line > 1 && !strings.Contains(before, ":"):
		f.hint = "end the line above with \":\", or indent this line like it"
	}
	return f
}
