package policy

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// choose reads a word that is one of a few.
func choose[T ~string](w *walker, n *yaml.Node, key string, to *T, choices ...T) {
	words := make([]string, len(choices))
	for i, c := range choices {
		if words[i] = string(c); n.Value == words[i] {
			*to = c
			return
		}
	}
	hint := "write " + either(words)
	if near := nearest(n.Value, words); near != "" {
		hint = "did you mean " + near + "? it is one of " + strings.Join(words, ", ")
	}
	w.fail(n, fmt.Sprintf("%s cannot be %s", key, quoted(n.Value)), hint)
}

// either joins words for a sentence: "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// flag reads true or false.
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
	w.fail(n, fmt.Sprintf("%s cannot be %s", key, quoted(n.Value)), hint)
}

// number reads a whole number, which is a thing such as "a prefix length".
func (w *walker) number(n *yaml.Node, key string, to *int, least, most int, thing string) {
	value, f := decimal(n.Value, least, most)
	if f == nil && n.Style != 0 {
		f = &fault{hint: "write " + n.Value + ", without quotes"}
	}
	if f != nil {
		if f.hint == "" {
			f.hint = fmt.Sprintf("%s is a number from %d to %d", thing, least, most)
		}
		w.fail(n, fmt.Sprintf("%s cannot be %s", key, quoted(n.Value)), f.hint)
		return
	}
	*to = value
}

// decimal reads a number in plain decimal digits. YAML has more ways to write
// one, and its versions differ on what 022 is: we take none of them. A fault's
// hint is empty when the number is simply not in the range.
func decimal(text string, least, most int) (int, *fault) {
	bad := &fault{message: short(text) + " is out of range"}
	if text == "" || strings.Trim(text, "0123456789") != "" {
		bad.message = quoted(text) + " is not a plain decimal number"
		return 0, bad
	}
	if plain := strings.TrimLeft(text, "0"); len(plain) < len(text) && len(text) > 1 {
		return 0, &fault{message: short(text) + " begins with a zero", hint: "write it as " + cmp.Or(plain, "0")}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, bad
	}
	return n, nil
}

// duration reads a time such as 3s, of whole milliseconds and within limits.
func (w *walker) duration(n *yaml.Node, key string, to *time.Duration, least, most time.Duration) {
	*to = 0 // what cannot be read is not compared with other doors
	text := n.Value
	limits := fmt.Sprintf("%s is from %s to %s, as in 3s or 500ms", key, brief(least), brief(most))
	d, err := time.ParseDuration(text)
	switch {
	case text != "" && strings.Trim(text, "0123456789.") == "":
		for _, unit := range []string{"s", "ms"} { // what was meant, if it fits
			if d, err := time.ParseDuration(text + unit); err == nil && d >= least && d <= most {
				limits = "write " + short(text) + unit
				break
			}
		}
		w.fail(n, fmt.Sprintf("%s %s has no unit", key, short(text)), limits)
	case err != nil:
		w.fail(n, fmt.Sprintf("%s cannot be %s", key, quoted(text)), "write a number with its unit, ms, s, m or h, as in 3s or 1m30s")
	case d < least:
		w.fail(n, fmt.Sprintf("%s %s is too short", key, short(text)), limits)
	case d > most:
		w.fail(n, fmt.Sprintf("%s %s is too long", key, short(text)), limits)
	case d%time.Millisecond != 0:
		w.fail(n, fmt.Sprintf("%s %s is finer than a millisecond", key, short(text)), "write "+brief(d.Round(time.Millisecond)))
	default:
		*to = d
	}
}

// brief is a duration without the zero units that Go writes: 1h, not 1h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// maxInterfaceName is what Linux keeps of a name (IFNAMSIZ less its NUL).
const maxInterfaceName = 15

// interfaceName checks the name of a network interface. What the kernel allows
// but a rule set's text would read otherwise (wildcards, quotes) is refused.
func interfaceName(text string) (string, *fault) {
	wrong := func(message, hint string) (string, *fault) {
		return "", &fault{fmt.Sprintf("interface %s %s", quoted(text), message), hint}
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
		return wrong("contains a colon", "name the interface itself, without the label: "+short(text[:strings.Index(text, ":")]))
	case strings.ContainsAny(text, "*+"):
		return wrong("contains a wildcard", "name every interface, as in [eth0, eth1]")
	case odd >= 0, text == ".", text == "..":
		return wrong("is not a name", "write the name of an interface, as in eth0")
	}
	return text, nil
}
