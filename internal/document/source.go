package document

import (
	"strings"
	"unicode/utf8"
)

// A Source is the text of a file, kept so that a diagnostic can show its line
// after parsing.
type Source struct {
	language *FileKind
	name     string
	text     string
	starts   []int // the offset at which each line begins; at least one
}

func newSource(name, text string, l *FileKind) *Source {
	s := &Source{language: l, name: name, text: text, starts: []int{0}}
	for i := 0; i < len(text); {
		n := strings.IndexByte(text[i:], '\n')
		if n < 0 {
			break
		}
		i += n + 1
		if i < len(text) { // what follows the last newline is not a line
			s.starts = append(s.starts, i)
		}
	}
	return s
}

// line returns a line, counted from 1, without its end.
func (s *Source) line(n int) string {
	end := len(s.text)
	if n < len(s.starts) {
		end = s.starts[n]
	}
	return strings.TrimRight(s.text[s.starts[n-1]:end], "\r\n")
}

// clamp moves a position into the text: at most one character past the end of a
// line. The YAML parser reports what is missing at the end of the file on a
// line that does not exist.
func (s *Source) clamp(at Position) Position {
	if at.Line > len(s.starts) {
		at = Position{Line: len(s.starts), Column: len(s.text) + 1}
	}
	at.Line = max(at.Line, 1)
	at.Column = max(1, min(at.Column, utf8.RuneCountInString(s.line(at.Line))+1))
	return at
}

// from returns the rest of the line from a position in the text.
func (s *Source) from(at Position) string {
	line := s.line(at.Line)
	return line[offset(line, at.Column-1):]
}

// offset returns the byte offset of character n, counted from 0.
func offset(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}

// diagnostic points at a token in the text. A known plain value determines
// where the token ends; otherwise the text does.
func (s *Source) diagnostic(at Position, plain, message, hint string) Diagnostic {
	at = s.clamp(at)
	rest := s.from(at)
	token := plain
	if token == "" || !strings.HasPrefix(rest, token) {
		token = rest[:tokenLength(rest)]
	}
	return Diagnostic{
		File:    s.name,
		Line:    at.Line,
		Column:  at.Column,
		Width:   max(1, utf8.RuneCountInString(token)),
		Message: message,
		Hint:    hint,
		Source:  s.line(at.Line),
	}
}

// tokenLength returns the length in bytes of the YAML token at the beginning of
// text, as far as one line shows it: a quoted value with its quotes, a whole
// list or mapping in brackets, anything else up to what may end a plain value.
func tokenLength(text string) int {
	if text == "" {
		return 0
	}
	switch text[0] {
	case '"', '\'':
		return quotedLength(text)
	case '[', '{':
		return bracketLength(text)
	}
	for i := 1; i < len(text); i++ {
		ends := i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\t'
		switch c := text[i]; {
		case c == ']' || c == '}', (c == ':' || c == ',') && ends:
			return i
		case c == '#' && text[i-1] == ' ':
			return len(strings.TrimRight(text[:i], " \t"))
		}
	}
	return len(strings.TrimRight(text, " \t"))
}

func quotedLength(text string) int {
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote && i+1 < len(text) && text[i+1] == quote && quote == '\'':
			i++ // '' is a quote inside single quotes
		case text[i] == quote:
			return i + 1
		}
	}
	return len(text)
}

func bracketLength(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"', '\'':
			// An apostrophe inside a word is not a quote.
			if strings.IndexByte(" ,[{:", text[i-1]) >= 0 {
				i += quotedLength(text[i:]) - 1
			}
		}
	}
	return len(strings.TrimRight(text, " \t"))
}
