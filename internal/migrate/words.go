package migrate

import (
	"path"
	"regexp"
	"strings"
)

// words takes a line apart as a shell would: at blanks, with quotes and
// backslashes. What begins with # is a comment. The line ends where the shell
// would begin another command, and rest is what follows: after ";", "&&", "|".
func words(line string) (all []string, rest string, closed bool) {
	var b strings.Builder
	inWord := false
	flush := func() {
		if inWord {
			all = append(all, b.String())
		}
		b.Reset()
		inWord = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
			inWord = true
		case c == '"' || c == '\'':
			end := i + 1
			for end < len(line) && line[end] != c {
				if line[end] == '\\' && c == '"' && end+1 < len(line) {
					end++
				}
				b.WriteByte(line[end])
				end++
			}
			if end >= len(line) {
				return all, "", false
			}
			i, inWord = end, true
		case c == ' ' || c == '\t':
			flush()
		case c == '#' && !inWord:
			return all, "", true
		case c == ';' || c == '&' || c == '|':
			flush()
			return all, strings.TrimLeft(line[i:], ";&| \t"), true
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	flush()
	return all, "", true
}

// command finds the program in the words of a command line, without its folder,
// and what comes after it. What runs another program ("sudo") is passed over.
func command(all []string) (program string, args []string) {
	for i, w := range all {
		switch name := path.Base(w); name {
		case "sudo", "doas", "exec", "command", "then", "do", "else":
		default:
			return name, all[i+1:]
		}
	}
	return "", nil
}

var iptablesName = regexp.MustCompile(`^(ip6?tables)(-(nft|legacy))?$`)

// isCommand tells whether a word calls iptables.
func isCommand(word string) bool { return iptablesName.MatchString(path.Base(word)) }

var (
	assignment = regexp.MustCompile(`^(?:export |readonly |local )?([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)
	variable   = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})`)
)

// expand puts in the values of the variables that a script has set to plain words.
func expand(line string, values map[string]string) string {
	const most = 1 << 14
	if !strings.Contains(line, "$") || len(line) > most {
		return line
	}
	expanded := variable.ReplaceAllStringFunc(line, func(found string) string {
		if value, known := values[strings.Trim(found, "${}")]; known {
			return value
		}
		return found
	})
	if len(expanded) > most {
		return line
	}
	return expanded
}
