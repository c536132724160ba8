package sshconfig

import (
	"fmt"
	"slices"
	"strings"
)

// A CommandLine is a command line of ssh, parsed as far as needed to know where
// it leads. ssh itself gets the original words.
type CommandLine struct {
	Destination string // as written, perhaps with a user; may be empty
	Options     []Option
}

// An Option is an option on the command line, by its name in configuration
// files. An option without such a name keeps its letter.
type Option struct {
	Name    string
	Value   string
	Written string // as on the command line: "-J", "-o ProxyJump"
}

// valued are the letters of options that take a value. (Before OpenSSH 9.4, -P
// had none and no effect.)
const valued = "BbcDEeFIiJLlmOoPpQRSWw"

// named maps letters to the configuration names that matter for where ssh
// connects, and to the value they imply if they take none.
var named = map[byte][2]string{
	'l': {"User"}, 'p': {"Port"}, 'J': {"ProxyJump"}, 'b': {"BindAddress"}, 'B': {"BindInterface"},
	'4': {"AddressFamily", "inet"}, '6': {"AddressFamily", "inet6"},
}

// ParseCommandLine parses the words after "ssh". Options may come before and
// after the destination, up to the first word of the command. An unknown option
// is treated as one without a value: ssh will report it.
func ParseCommandLine(words []string) (*CommandLine, error) {
	l := &CommandLine{}
	for options := true; len(words) > 0; words = words[1:] {
		switch w := words[0]; {
		case options && w == "--":
			options = false
		case options && strings.HasPrefix(w, "--"):
			return nil, fmt.Errorf("ssh has no option %q", w)
		case options && len(w) > 1 && w[0] == '-':
			words = l.letters(words)
		case l.Destination == "":
			l.Destination = w
		default:
			return l, nil // the command
		}
		if len(words) == 0 {
			return l, nil
		}
		if !options && l.Destination != "" {
			return l, nil // after a "--" and a destination all is the command
		}
	}
	return l, nil
}

// letters parses a word of options such as -vvp22, and returns the words from
// the last one that belongs to it.
func (l *CommandLine) letters(words []string) []string {
	w := words[0]
	for i := 1; i < len(w); i++ {
		letter := w[i]
		o := Option{Name: string(letter), Written: "-" + string(letter)}
		known, ok := named[letter]
		if ok {
			o.Name, o.Value = known[0], known[1]
		}
		if !strings.ContainsRune(valued, rune(letter)) {
			l.Options = append(l.Options, o)
			continue
		}
		o.Value = w[i+1:]
		if o.Value == "" {
			if words = words[1:]; len(words) == 0 {
				return nil // ssh will report the missing value
			}
			o.Value = words[0]
		}
		if letter == 'o' {
			o.Name, o.Value = setting(o.Value)
			o.Written = "-o " + o.Name
		}
		l.Options = append(l.Options, o)
		break
	}
	return words
}

// setting splits the value of -o: "Port=22", "port 22", "port = 22".
func setting(text string) (name, value string) {
	text = strings.TrimSpace(text)
	if end := strings.IndexAny(text, "= \t"); end >= 0 {
		name, value = text[:end], strings.TrimSpace(text[end:])
		value = strings.TrimSpace(strings.TrimPrefix(value, "="))
		return name, strings.Trim(value, `"`)
	}
	return text, ""
}

// names reports whether the command line sets an option itself.
func (l *CommandLine) names(option string) bool {
	if option == "User" && strings.Contains(l.Destination, "@") {
		return true
	}
	for _, o := range l.Options {
		if strings.EqualFold(o.Name, option) {
			return true
		}
	}
	return false
}

// Host returns the host name in the destination.
func (l *CommandLine) Host() string {
	return l.Destination[strings.LastIndexByte(l.Destination, '@')+1:]
}

// IsQuery reports whether ssh only prints something about itself and does not
// connect: its version, or what it supports.
func (l *CommandLine) IsQuery() bool {
	return slices.ContainsFunc(l.Options, func(o Option) bool { return o.Name == "V" || o.Name == "Q" })
}

// Verbose reports whether ssh prints what it does.
func (l *CommandLine) Verbose() bool { return l.names("v") }

// Quiet reports whether ssh prints errors only.
func (l *CommandLine) Quiet() bool { return l.names("q") }

// A Conflict is an option that would bypass the door, or that only ssh itself
// could follow if it connected.
type Conflict struct {
	Option Option
	Kind   ConflictKind
}

// ConflictKind says what an option asks for that a door does not offer.
type ConflictKind int

const (
	OtherProxy       ConflictKind = iota // another proxy command, or a jump host
	OtherDestination                     // another address or port
	OtherSource                          // a local address or interface to connect from
)

// Conflict returns the first option that conflicts with the door, or nil. An
// option that sets what is already so does not.
func (h *Host) Conflict(l *CommandLine) *Conflict {
	for _, o := range l.Options {
		is := func(name string) bool { return strings.EqualFold(o.Name, name) }
		switch {
		case is("ProxyJump"), is("ProxyCommand"), is("ProxyUseFdpass"):
			return &Conflict{o, OtherProxy}
		case is("Port") && o.Value != fmt.Sprint(h.Port), is("HostName") && o.Value != h.Address,
			is("AddressFamily") && !strings.EqualFold(o.Value, "any"):
			return &Conflict{o, OtherDestination}
		case is("BindAddress"), is("BindInterface"):
			return &Conflict{o, OtherSource}
		}
	}
	return nil
}
