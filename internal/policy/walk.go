package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A walker reads the YAML tree into a policy and gathers what is wrong.
type walker struct {
	policy    *Policy
	doors     []doorEntry // one for each of policy.Doors
	unwritten *unwritten
	found     []finding
}

// fail says that the value or key at n is wrong.
func (w *walker) fail(n *yaml.Node, message, hint string) {
	f := finding{at: place(n), message: message, hint: hint}
	if n.Kind == yaml.ScalarNode && n.Style == 0 {
		f.plain = n.Value
	}
	w.found = append(w.found, f)
}

// A shape is the kind of YAML that a key takes.
type shape int

const (
	word       shape = iota // one value
	list                    // one or more values
	wordOrList              // one value, or one or more
	mapping                 // one or more keys
)

func (s shape) String() string {
	return [...]string{"one value", "a list", "one value or a list", "a mapping"}[s]
}

func (s shape) takes(n *yaml.Node) bool {
	switch n.Kind {
	case yaml.ScalarNode:
		return s == word || s == wordOrList
	case yaml.SequenceNode:
		return s == list || s == wordOrList
	}
	return s == mapping
}

// A field is a key of a mapping in the policy.
type field struct {
	key   string
	shape shape
	// example is a right value, as one would write it. Where one example would
	// mislead, advice says what to write.
	example, advice string
	// absent is what leaving the key out means; empty: it cannot be left out.
	absent string
	read   func(n *yaml.Node)
}

// hint says what to write, after the verb: "write" or "add".
func (f field) hint(verb string) string {
	hint := f.advice
	if hint == "" {
		hint = fmt.Sprintf("\"%s: %s\"", f.key, f.example)
	}
	if f.absent != "" {
		hint += ", or leave it out to mean " + f.absent
	}
	return verb + " " + hint
}

// An entry is a key with its value, as they stand in the file.
type entry struct {
	key, value *yaml.Node
}

// fields reads a mapping of known keys, and gives its entries by key. The
// mapping belongs to owner, which stands at (a key, or the mapping itself).
func (w *walker) fields(owner string, at, n *yaml.Node, fields []field) map[string]entry {
	entries := w.entries(n, "remove one of the two")
	byKey := make(map[string]entry, len(entries))
	meant := map[string]bool{} // keys that a misspelt one stands for
	for _, e := range entries {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.key.Value })
		if i < 0 {
			meant[w.unknown(owner, e.key, fields)] = true
			continue
		}
		byKey[e.key.Value] = e
		if w.shaped(e, fields[i]) {
			fields[i].read(e.value)
		}
	}
	for _, f := range fields {
		if _, there := byKey[f.key]; there || f.absent != "" || meant[f.key] || merges(n, f.key) {
			continue
		}
		w.fail(at, fmt.Sprintf("%s has no %s", owner, f.key), f.hint("add"))
	}
	return byKey
}

// merges tells whether a required key may be missing only because the mapping
// takes it from elsewhere, or stands there unreadable: that was said already.
func merges(n *yaml.Node, key string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Tag == "!!merge" || k.Kind == yaml.ScalarNode && k.Value == key {
			return true
		}
	}
	return false
}

// entries gives the readable entries of a mapping, each key once. What to do
// about a key that is there twice is the caller's to say.
func (w *walker) entries(n *yaml.Node, twice string) []entry {
	entries := make([]entry, 0, len(n.Content)/2)
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if w.unwritten.nodes[key] {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			w.fail(key, "a key must be one word, not "+kind(key), "write \"key: value\"")
			continue
		}
		if first := seen[key.Value]; first != nil {
			w.fail(key, fmt.Sprintf("%s is here a second time (first on line %d)", quoted(key.Value), first.Line), twice)
			continue
		}
		seen[key.Value] = key
		if !w.unwritten.nodes[value] {
			entries = append(entries, entry{key, value})
		}
	}
	return entries
}

// shaped says what is wrong with a value that is missing, empty or of another
// shape than its key takes.
func (w *walker) shaped(e entry, f field) bool {
	n := e.value
	switch {
	case isNull(n):
		w.fail(e.key, f.key+" has no value", f.hint("write"))
	case !f.shape.takes(n):
		w.fail(n, fmt.Sprintf("%s must be %s, not %s", f.key, f.shape, kind(n)), f.hint("write"))
	case n.Kind != yaml.ScalarNode && len(n.Content) == 0:
		w.fail(n, fmt.Sprintf("%s is an empty %s", f.key, strings.TrimPrefix(kind(n), "a ")), f.hint("write"))
	default:
		return true
	}
	return false
}

// homes says where the keys belong that people put in the wrong place.
var homes = map[string]string{
	"version": "the top of the file", "posture": "the top of the file", "interfaces": "the top of the file",
	"cover": "the top of the file", "allow": "the top of the file", "doors": "the top of the file",
	"source": "the top of the file", "log": "the top of the file",
	"knock": "a door", "open_for": "a door", "admit": "a door", "forfeit": "a door", "forward": "a door",
	"masquerade": "a door", "address": "a door",
	"service": "a door or an allow entry", "from": "a door or an allow entry", "interface": "an allow entry",
	"sequence": "a door's knock", "step_timeout": "a door's knock", "retransmits": "a door's knock",
	"ipv4": "source", "ipv6": "source", "target": "log", "group": "log",
}

// unknown refuses a key, and gives the one that was meant if that is clear.
func (w *walker) unknown(owner string, key *yaml.Node, fields []field) (meant string) {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	hint := "the keys of " + owner + " are " + strings.Join(keys, ", ")
	if near := nearest(key.Value, keys); near != "" {
		meant, hint = near, "did you mean "+near+"?"
	} else if key.Value == "port" || key.Value == "ports" {
		meant, hint = "service", "write the port as a service, as in \"service: tcp/22\""
	} else if home, ok := homes[key.Value]; ok {
		hint = key.Value + " belongs to " + home
	} else if near := nearest(key.Value, slices.Sorted(maps.Keys(homes))); near != "" {
		hint = fmt.Sprintf("did you mean %s? it belongs to %s", near, homes[near])
	}
	w.fail(key, fmt.Sprintf("%s has no key %s", owner, quoted(key.Value)), hint)
	return meant
}

// kind names what a node is, for "must be X, not Y".
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case isNull(n):
		return "nothing"
	}
	return "one value"
}

// items gives the items of a list that can be read, or the value itself where
// one value stands for a list of one.
func (w *walker) items(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.ScalarNode {
		return []*yaml.Node{n}
	}
	items := make([]*yaml.Node, 0, len(n.Content))
	for _, c := range n.Content {
		if !w.unwritten.nodes[c] {
			items = append(items, c)
		}
	}
	return items
}

// words gives the items of a list of single values.
func (w *walker) words(n *yaml.Node, item, example string) []*yaml.Node {
	return slices.DeleteFunc(w.items(n), func(c *yaml.Node) bool {
		if c.Kind == yaml.ScalarNode && !isNull(c) {
			return false
		}
		hint := "write " + example
		if address, ok := colonAtEnd(c); ok {
			hint = fmt.Sprintf("put it in quotes: \"%s\"", short(address))
		}
		w.fail(c, fmt.Sprintf("%s must be one value, not %s", item, kind(c)), hint)
		return true
	})
}

// colonAtEnd recognizes an address such as 2001:db8:: inside brackets, which
// YAML takes for a mapping with the key "2001:db8:" and no value.
func colonAtEnd(n *yaml.Node) (address string, ok bool) {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || !isNull(n.Content[1]) {
		return "", false
	}
	key := n.Content[0].Value
	return key + ":", strings.HasSuffix(key, ":")
}

// A fault is what is wrong with a value's text.
type fault struct {
	message, hint string
}

func (f *fault) Error() string { return f.message + ": " + f.hint }

// check reports a fault, if there is one, at the value it was found in.
func (w *walker) check(n *yaml.Node, f *fault) bool {
	if f != nil {
		w.fail(n, f.message, f.hint)
	}
	return f == nil
}

// once refuses what is in a list already: a list may be very long.
func once[T comparable](w *walker, n *yaml.Node, seen map[T]bool, v T, what string) bool {
	if seen[v] {
		w.fail(n, what+" is in the list twice", "remove it here")
		return false
	}
	seen[v] = true
	return true
}
