package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

// choose parses a word that is one of a few.
func choose[T ~string](w *walker, n *yaml.Node, key string, to *T, choices ...T) {
	words := make([]string, len(choices))
	for i, c := range choices {
		if words[i] = string(c); n.Value == words[i] {
			*to = c
			return
		}
	}
	hint := "write " + either(words)
	if near := document.Nearest(n.Value, words); near != "" {
		hint = "did you mean " + near + "? it is one of " + strings.Join(words, ", ")
	}
	w.Fail(n, fmt.Sprintf("%s cannot be %s", key, document.Quoted(n.Value)), hint)
}

// either joins words for a sentence: "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// flag parses true or false.
func (w *walker) flag(n *yaml.Node, key string, to *bool) {
	if n.Tag == "!!bool" {
		*to = strings.EqualFold(n.Value, "true")
		return
	}
	hint := "write true or false"
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on", "y", "1":
		hint = "write true, without quotes"
	case "false", "no", "off", "n", "0":
		hint = "write false, without quotes"
	}
	w.Fail(n, fmt.Sprintf("%s cannot be %s", key, document.Quoted(n.Value)), hint)
}

// number parses a whole number; thing is what it is, such as "a prefix length".
func (w *walker) number(n *yaml.Node, key string, to *int, least, most int, thing string) {
	value, f := document.Decimal(n.Value, least, most)
	if f == nil && n.Style != 0 {
		f = &document.Fault{Hint: "write " + n.Value + ", without quotes"}
	}
	if f != nil {
		if f.Hint == "" {
			f.Hint = fmt.Sprintf("%s is a number from %d to %d", thing, least, most)
		}
		w.Fail(n, fmt.Sprintf("%s cannot be %s", key, document.Quoted(n.Value)), f.Hint)
		return
	}
	*to = value
}

// mark parses a mark: decimal, or hexadecimal as firewalls list it.
func mark(text string) (Mark, *document.Fault) {
	digits, base := text, 10
	if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		digits, base = hex, 16
	} else if len(text) > 1 && text[0] == '0' {
		digits = "" // YAML and C would read it as octal
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n == 0 {
		return 0, document.NewFault("mark cannot be "+document.Quoted(text), "a mark is a number from 1 to 0xffffffff")
	}
	return Mark(n), nil
}

// duration parses a time such as 3s.
func (w *walker) duration(n *yaml.Node, key string, to *time.Duration, least, most time.Duration) {
	d, f := document.Duration(key, n.Value, least, most)
	w.Check(n, f)
	*to = d // zero if unreadable; then it is not compared with other doors
}

// once fails a value that is already in the list, and reports whether it is
// new. A list may be very long.
func once[T comparable](w *walker, n *yaml.Node, seen map[T]bool, v T, what string) bool {
	if seen[v] {
		w.Fail(n, what+" is in the list twice", "remove it here")
		return false
	}
	seen[v] = true
	return true
}

// maxInterfaceName is the longest name that Linux stores (IFNAMSIZ without its
// NUL).
const maxInterfaceName = 15

// interfaceName checks the name of a network interface. It rejects what the
// kernel allows but the text of a rule set would read differently (wildcards,
// quotes).
func interfaceName(text string) (string, *document.Fault) {
	wrong := func(message, hint string) (string, *document.Fault) {
		return "", document.NewFault(fmt.Sprintf("interface %s %s", document.Quoted(text), message), hint)
	}
	odd := strings.IndexFunc(text, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(`/"'\*+`, r)
	})
	switch {
	case text == "":
		return wrong("has no name", "write the name of an interface, as in eth0")
	case text == "lo":
		return wrong("cannot be named", "remove it: loopback is never filtered")
	case len(text) > maxInterfaceName:
		return wrong("is longer than 15 bytes", "write the name that the system lists for it")
	case strings.Contains(text, ":"):
		return wrong("contains a colon", "name the interface itself, without the label: "+document.Short(text[:strings.Index(text, ":")]))
	case strings.ContainsAny(text, "*+"):
		return wrong("contains a wildcard", "name every interface, as in [eth0, eth1]")
	case odd >= 0, text == ".", text == "..":
		return wrong("is not a name", "write the name of an interface, as in eth0")
	}
	return text, nil
}
