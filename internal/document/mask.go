package document

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/internal/lazyregexp"
)

// Lines of a file are shown with its errors, and these end in the logs of CI, of
// Ansible, of a machine's boot, which more people read than the file. So knocks and
// keys are masked there: what looks like one, as a line with an error may have it
// anywhere.
var (
	portList = lazyregexp.New(`(?:\b(?:service|from)\s*:\s*)?\[[^\[\]]*(?:\]|$)`) // which a broken line does not end
	onlyPort = lazyregexp.New(`^\s*(?:-\s+)?['"\[]*(?:(?:tcp|udp)[/: ]?)?\d+(?:[/: ]?(?:tcp|udp))?['"\]]*\s*(?:,|#.*|$)`)
	ofKnocks = lazyregexp.New(`(?i)(?:sequence|knocks?)\W`)
	aPort    = lazyregexp.New(`\b\d+\b`)
	ofKey    = lazyregexp.New(`(?i)(\b(?:keys?|secret|site)['"]?\s*[:=]\s*['"]?)([^\s,'"\[\]{}]{4,})`)
	longWord = lazyregexp.New(`[A-Za-z0-9+/_-]{40,}=*`) // 30 bytes in base64
)

// maxRead is the length of the longest line that is looked into, in bytes: it takes a
// quarter of a second for a megabyte and each of its errors. Of a longer line, which
// nobody writes by hand, all letters and digits are masked.
const maxRead = 10_000

// masked returns a line with as many characters, and stars for the digits of what may
// be a knock and for what may be a key.
func masked(line string) string {
	if len(line) > maxRead {
		return strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return '*'
			}
			return r
		}, line)
	}
	line = longWord().ReplaceAllStringFunc(line, func(word string) string {
		if strings.IndexFunc(word, unicode.IsUpper) < 0 || !strings.ContainsAny(word, "0123456789") {
			return word // of a person's
		}
		return strings.Repeat("*", len(word))
	})
	line = ofKey().ReplaceAllStringFunc(line, func(entry string) string {
		parts := ofKey().FindStringSubmatch(entry)
		return parts[1] + strings.Repeat("*", utf8.RuneCountInString(parts[2]))
	})
	stars := func(text string) string {
		return aPort().ReplaceAllStringFunc(text, func(n string) string { return strings.Repeat("*", len(n)) })
	}
	if at := ofKnocks().FindStringIndex(line); at != nil {
		line = line[:at[1]] + stars(line[at[1]:])
	}
	line = portList().ReplaceAllStringFunc(line, func(list string) string {
		if list[0] != '[' { // what is hidden is no secret here, nor who may knock
			return list
		}
		items := strings.Split(list, ",")
		for i, item := range items {
			if onlyPort().MatchString(item) {
				items[i] = stars(item)
			}
		}
		return strings.Join(items, ",")
	})
	if onlyPort().MatchString(line) { // a list that has a line for each item, or goes on
		line = stars(line)
	}
	return line
}

// quotedWord is what may be a part of a key, in a message that quotes the file.
var quotedWord = lazyregexp.New(`[A-Za-z0-9+/_-]{8,}`)

// discreet returns a message about a file with secrets without what may be a part of one:
// a key may stand where a name belongs, and messages quote names. The place and the line,
// which is masked by itself, say where it is. Eight characters of a key in base64 have
// digits or capitals, but for one of a thousand. What the file does not have, as an
// example, stays.
func (s *Source) discreet(message string) string {
	return quotedWord().ReplaceAllStringFunc(message, func(word string) string {
		coded := strings.ContainsAny(word, "0123456789") || strings.IndexFunc(word, unicode.IsUpper) >= 0
		if coded && strings.Contains(s.text, word) {
			return "***"
		}
		return word
	})
}

// Unmasked is String with the line as it is, for the terminal of who works on the file.
func (d Diagnostic) Unmasked() string { return d.text(d.Source) }

// MarshalJSON masks knocks as String does.
func (d Diagnostic) MarshalJSON() ([]byte, error) {
	type plain Diagnostic
	d.Source = masked(d.Source)
	return json.Marshal(plain(d))
}
