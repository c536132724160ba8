// Package document parses the YAML files that people write for Postern, and
// explains what is wrong with them.
//
// The files are the policy of a server and the hosts file of a client. Each has
// a package of its own that knows its keys; what they share is here. All errors
// are reported, not only the first. Each is a Diagnostic: the place, the line,
// and what to write.
//
// A reader must see in one place what a value is, so anchors, aliases, merge
// keys and tags are rejected. So are unknown keys, duplicate keys and empty
// lists.
//
// The package is pure: it opens no file.
package document

import (
	"cmp"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A FileKind describes one kind of file, for the texts of its diagnostics.
type FileKind struct {
	Name       string // "policy": used as "the policy" and "a policy"
	EmptyHint  string // for an empty file: what a file begins with
	MaxNesting string // the deepest nesting: "six levels"
	Mapping    string // an example of a mapping, in braces
	MaxSize    int    // of the largest file that is parsed, in bytes; 0: the constant MaxSize
	Secrets    bool   // it holds keys: messages quote nothing that may be one
	// KeyOwners maps keys that people often misplace to what they belong to,
	// such as "a door".
	KeyOwners map[string]string
	// UnknownKey returns advice on an unknown key, and the key that it probably
	// stands for. Both are empty if there is none.
	UnknownKey func(key string) (meant, hint string)
}

// MaxSize is the size of the largest file that is parsed. A policy of ten
// thousand doors fits.
const MaxSize = 1 << 20

// Parse parses a file of a kind. The name is used in diagnostics. Parse calls
// read with the root of the document, if there is one; read reports errors
// through the Walker. The error is an *InvalidError with everything that is
// wrong; only text that is not YAML hides the errors after it. The returned
// Source can point at the file later.
func Parse(name string, data []byte, l *FileKind, read func(*Walker, *yaml.Node)) (*Source, error) {
	if most := cmp.Or(l.MaxSize, MaxSize); len(data) > most {
		return nil, &InvalidError{Kind: l.Name, Diagnostics: []Diagnostic{{
			File: name, Line: 1, Column: 1,
			Message: fmt.Sprintf("the file is larger than %d MiB", most>>20),
			Hint:    fmt.Sprintf("a %s is a small text file: check the name of the file", l.Name),
		}}}
	}
	s := newSource(name, strings.TrimPrefix(string(data), "\ufeff"), l)
	if found := checkText(s.text); len(found) > 0 {
		return nil, s.invalid(found)
	}
	root, found := compose(s)
	if root == nil {
		return nil, s.invalid(found)
	}
	w := &Walker{language: l, indirection: findIndirection(root, l), found: found}
	w.found = append(w.found, w.indirection.found...)
	if !w.indirection.nodes[root] {
		read(w, root)
	}
	if err := s.invalid(w.found); err != nil {
		return nil, err
	}
	return s, nil
}
