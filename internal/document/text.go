package document

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxBadLines is the number of lines with a forbidden character up to which each is
// worth a look.
const maxBadLines = 8

const notText = "name a text file, in UTF-8"

// checkText finds characters that must not appear anywhere in a file, comments
// included: bytes that are not UTF-8, and characters that disguise a line or
// that only some programs treat as a line end. One finding a line is enough.
//
// A file with a NUL byte, or with such characters on many lines, is a binary or in
// another encoding: that is one finding.
//
// In the checked text, lines end only in a newline, so that the YAML parser and
// editors count them alike.
func checkText(text string) []finding {
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return []finding{{
			at:      Position{Line: 1, Column: 1},
			message: "the file is UTF-16",
			hint:    "save it as UTF-8",
		}}
	}
	if before, _, binary := strings.Cut(text, "\x00"); binary {
		at := Position{Line: 1 + strings.Count(before, "\n")}
		at.Column = 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
		return []finding{{at: at, message: "the file is not text: here is a NUL byte", hint: notText}}
	}
	var found []finding
	at := Position{Line: 1}
	reported := 0 // the last line with a finding
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == '\n' {
			at = Position{Line: at.Line + 1}
			i += size
			continue
		}
		at.Column++
		message, hint := forbidden(r, text[i:], size)
		if message != "" && reported != at.Line {
			found = append(found, finding{at: at, message: message, hint: hint})
			reported = at.Line
		}
		i += size
	}
	if len(found) > maxBadLines {
		message := fmt.Sprintf("the file is not text: %d of its lines have bytes that are not UTF-8, or control characters", len(found))
		return []finding{{at: found[0].at, message: message, hint: notText}}
	}
	return found
}

// forbidden explains what is wrong with the character r, of size bytes, at the
// start of rest. The message is empty if nothing is.
func forbidden(r rune, rest string, size int) (message, hint string) {
	switch {
	case r >= ' ' && r <= '~', r == '\t':
		return "", ""
	case r == utf8.RuneError && size <= 1:
		return fmt.Sprintf("the byte 0x%02x is not UTF-8", rest[0]), "save the file as UTF-8"
	case r == '\r':
		if strings.HasPrefix(rest, "\r\n") {
			return "", ""
		}
		return "a carriage return without a newline", "end every line with a newline"
	case r < ' ', r >= 0x7f && r <= 0x9f:
		return fmt.Sprintf("the control character U+%04X is not allowed", r), "remove it"
	case r == 0x2028, r == 0x2029:
		return fmt.Sprintf("the line separator U+%04X is not allowed", r), "end every line with a newline"
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		// They can make a line look different from what it is (CVE-2021-42574).
		return fmt.Sprintf("the text direction control U+%04X is not allowed", r), "remove it: the line is not what it looks like"
	case r == 0xfeff, r == 0xfffe, r == 0xffff:
		return fmt.Sprintf("the character U+%04X is not allowed", r), "remove it"
	}
	return "", ""
}
