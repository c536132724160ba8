package document

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A Walker helps to walk the YAML tree, and collects errors.
type Walker struct {
	language    *FileKind
	indirection *indirection
	found       []finding
}

// Fail reports that the value or key at n is wrong.
func (w *Walker) Fail(n *yaml.Node, message, hint string) {
	f := finding{at: PositionOf(n), message: message, hint: hint}
	if n.Kind == yaml.ScalarNode && n.Style == 0 {
		f.plain = n.Value
	}
	w.found = append(w.found, f)
}

// RejectNewer reports whether the document declares a version later than 1, and
// rejects it. Only later programs know what else is in it, so other errors are
// dropped.
func (w *Walker) RejectNewer(root *yaml.Node) bool {
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		n, err := strconv.ParseUint(value.Value, 10, 32)
		if key.Value != "version" || value.Style != 0 || err != nil || n < 2 {
			continue
		}
		w.found = nil
		w.Fail(value, fmt.Sprintf("this %s has version %d, but this postern reads version 1", w.language.Name, n), "update postern here")
		return true
	}
	return false
}

// A Shape is the kind of YAML node that a key takes.
type Shape int

const (
	Scalar       Shape = iota // one value
	List                      // one or more values
	ScalarOrList              // one value, or one or more
	Mapping                   // one or more keys
)

func (s Shape) String() string {
	return [...]string{"one value", "a list", "one value or a list", "a mapping"}[s]
}

func (s Shape) takes(n *yaml.Node) bool {
	switch n.Kind {
	case yaml.ScalarNode:
		return s == Scalar || s == ScalarOrList
	case yaml.SequenceNode:
		return s == List || s == ScalarOrList
	}
	return s == Mapping
}

// A Field is a key of a mapping.
type Field struct {
	Key   string
	Shape Shape
	// Example is a correct value. Advice replaces it where one example would
	// mislead.
	Example, Advice string
	// Default describes what leaving the key out means. If it is empty, the key
	// is required.
	Default string
	Read    func(n *yaml.Node)
}

// hint returns what to write, after the verb "write" or "add".
func (f Field) hint(verb string) string {
	hint := f.Advice
	if hint == "" {
		hint = fmt.Sprintf("\"%s: %s\"", f.Key, f.Example)
	}
	if f.Default != "" {
		hint += ", or leave it out to mean " + f.Default
	}
	return verb + " " + hint
}

// An Entry is a key and its value in the file.
type Entry struct {
	Key, Value *yaml.Node
}

// Fields walks a mapping of known keys and returns its entries by key. The
// mapping belongs to owner, whose position is at (a key, or the mapping
// itself).
func (w *Walker) Fields(owner string, at, n *yaml.Node, fields []Field) map[string]Entry {
	entries := w.Entries(n, "remove one of the two")
	byKey := make(map[string]Entry, len(entries))
	meant := map[string]bool{} // keys that a misspelt one probably means
	for _, e := range entries {
		i := slices.IndexFunc(fields, func(f Field) bool { return f.Key == e.Key.Value })
		if i < 0 {
			meant[w.unknown(owner, e.Key, fields)] = true
			continue
		}
		byKey[e.Key.Value] = e
		if w.CheckShape(e, fields[i]) {
			fields[i].Read(e.Value)
		}
	}
	for _, f := range fields {
		if _, there := byKey[f.Key]; there || f.Default != "" || meant[f.Key] || merges(n, f.Key) {
			continue
		}
		w.Fail(at, fmt.Sprintf("%s has no %s", owner, f.Key), f.hint("add"))
	}
	return byKey
}

// merges reports whether a required key may be missing only because of an error
// that is already reported: a merge key, or an unreadable entry.
func merges(n *yaml.Node, key string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Tag == "!!merge" || k.Kind == yaml.ScalarNode && k.Value == key {
			return true
		}
	}
	return false
}

// Entries returns the readable entries of a mapping, each key once. The hint
// for a duplicate key comes from the caller.
func (w *Walker) Entries(n *yaml.Node, twice string) []Entry {
	entries := make([]Entry, 0, len(n.Content)/2)
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if w.indirection.nodes[key] {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			w.Fail(key, "a key must be one word, not "+Kind(key), "write \"key: value\"")
			continue
		}
		if first := seen[key.Value]; first != nil {
			w.Fail(key, fmt.Sprintf("%s appears a second time (first on line %d)", Quoted(key.Value), first.Line), twice)
			continue
		}
		seen[key.Value] = key
		if !w.indirection.nodes[value] {
			entries = append(entries, Entry{key, value})
		}
	}
	return entries
}

// CheckShape reports whether a value has the shape that its key takes. It fails
// a missing, empty or differently shaped value.
func (w *Walker) CheckShape(e Entry, f Field) bool {
	n := e.Value
	switch {
	case isNull(n):
		w.Fail(e.Key, f.Key+" has no value", f.hint("write"))
	case !f.Shape.takes(n):
		w.Fail(n, fmt.Sprintf("%s must be %s, not %s", f.Key, f.Shape, Kind(n)), f.hint("write"))
	case n.Kind != yaml.ScalarNode && len(n.Content) == 0:
		w.Fail(n, fmt.Sprintf("%s is an empty %s", f.Key, strings.TrimPrefix(Kind(n), "a ")), f.hint("write"))
	default:
		return true
	}
	return false
}

// unknown rejects a key and returns the key that was probably meant, or "".
func (w *Walker) unknown(owner string, key *yaml.Node, fields []Field) (meant string) {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.Key
	}
	hint := "the keys of " + owner + " are " + strings.Join(keys, ", ")
	homes := w.language.KeyOwners
	if near := Nearest(key.Value, keys); near != "" {
		meant, hint = near, "did you mean "+near+"?"
	} else if right, advice := w.language.UnknownKey(key.Value); advice != "" {
		meant, hint = right, advice
	} else if home, ok := homes[key.Value]; ok {
		hint = key.Value + " belongs to " + home
	} else if near := Nearest(key.Value, slices.Sorted(maps.Keys(homes))); near != "" {
		hint = fmt.Sprintf("did you mean %s? it belongs to %s", near, homes[near])
	}
	w.Fail(key, fmt.Sprintf("%s has no key %s", owner, Quoted(key.Value)), hint)
	return meant
}

// Kind returns what a node is, for "must be X, not Y".
func Kind(n *yaml.Node) string {
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

// Items returns the readable items of a list, or the value itself where one
// value stands for a list of one.
func (w *Walker) Items(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.ScalarNode {
		return []*yaml.Node{n}
	}
	items := make([]*yaml.Node, 0, len(n.Content))
	for _, c := range n.Content {
		if !w.indirection.nodes[c] {
			items = append(items, c)
		}
	}
	return items
}

// Scalars returns the items of a list of single values.
func (w *Walker) Scalars(n *yaml.Node, item, example string) []*yaml.Node {
	return slices.DeleteFunc(w.Items(n), func(c *yaml.Node) bool {
		if c.Kind == yaml.ScalarNode && !isNull(c) {
			return false
		}
		hint := "write " + example
		if address, ok := colonAtEnd(c); ok {
			hint = fmt.Sprintf("put it in quotes: \"%s\"", Short(address))
		}
		w.Fail(c, fmt.Sprintf("%s must be one value, not %s", item, Kind(c)), hint)
		return true
	})
}

// colonAtEnd recognizes an address such as 2001:db8:: inside brackets, which
// YAML parses as a mapping with the key "2001:db8:" and no value.
func colonAtEnd(n *yaml.Node) (address string, ok bool) {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || !isNull(n.Content[1]) {
		return "", false
	}
	key := n.Content[0].Value
	return key + ":", strings.HasSuffix(key, ":")
}

// Check reports a fault, if there is one, at the node n. It returns whether
// there was none.
func (w *Walker) Check(n *yaml.Node, f *Fault) bool {
	if f != nil {
		w.Fail(n, f.Message, f.Hint)
	}
	return f == nil
}

// ErrorCount returns the number of errors found so far.
func (w *Walker) ErrorCount() int { return len(w.found) }
