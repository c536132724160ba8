package sshconfig

import (
	"fmt"
	"slices"
	"strings"
)

// A CommandLine is a command line of ssh's, understood as far as needed to tell where it
// leads. ssh gets the words themselves.
type CommandLine struct {
	Destination string // as written, with a user before it maybe; empty if there is none
	Options     []Option
}

// An Option is one that the line gives, under the name that configuration files have
// for it; one that they do not have keeps its letter.
type Option struct {
	Name    string
	Value   string
	Written string // as on the line: "-J", "-o ProxyJump"
}

// valued are the letters of options that a value follows. (Before 9.4 -P had none,
// and no effect.)
const valued = "BbcDEeFIiJLlmOoPpQRSWw"

// named are the names of those letters that matter to where the line leads, and what
// they say if no value follows.
var named = map[byte][2]string{
	'l': {"User"}, 'p': {"Port"}, 'J': {"ProxyJump"}, 'b': {"BindAddress"}, 'B': {"BindInterface"},
	'4': {"AddressFamily", "inet"}, '6': {"AddressFamily", "inet6"},
}

// ParseCommandLine reads the words after "ssh". Options may stand before the destination and
// after it, up to the first word of the command. What is no option of any ssh
// that we know is taken for one without a value: ssh will say so itself.
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

// letters reads a word of options, as in -vvp22, and gives the words from the last
// one on that belongs to it.
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
				return nil // ssh will say that something is missing
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

// setting parts what follows -o: "Port=22", "port 22", "port = 22".
func setting(text string) (name, value string) {
	text = strings.TrimSpace(text)
	if end := strings.IndexAny(text, "= \t"); end >= 0 {
		name, value = text[:end], strings.TrimSpace(text[end:])
		value = strings.TrimSpace(strings.TrimPrefix(value, "="))
		return name, strings.Trim(value, `"`)
	}
	return text, ""
}

// names tells whether the line sets an option itself.
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

// Host is the name of the host in the destination.
func (l *CommandLine) Host() string {
	return l.Destination[strings.LastIndexByte(l.Destination, '@')+1:]
}

// Asks tells whether ssh is asked about itself, and goes nowhere: for its version, or what it
// is able to do.
func (l *CommandLine) IsQuery() bool {
	return slices.ContainsFunc(l.Options, func(o Option) bool { return o.Name == "V" || o.Name == "Q" })
}

// Verbose tells whether ssh is to say what it does.
func (l *CommandLine) Verbose() bool { return l.names("v") }

// A Conflict is an option that would lead ssh past the door, or that only ssh itself
// could heed, were it to connect.
type Conflict struct {
	Option Option
	Kind   ConflictKind
}

// ConflictKind is what an option wants, and the door does not have.
type ConflictKind int

const (
	OtherProxy       ConflictKind = iota // to come there by another command, or another host
	OtherDestination                     // to go to another address or port
	OtherSource                          // to start from one of this machine's addresses
)

// Conflict gives the first option that does not go together with the way to the host, or
// nil. One that says what is so anyway does.
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
