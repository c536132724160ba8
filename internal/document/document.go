// Package document reads a YAML file that a person wrote, and says what is wrong
// with it so that the person can mend it.
//
// It is for the small files that Postern is told things by: the policy of a
// server, the hosts file of a client. Each has a package of its own that knows its
// keys; what they have in common is here. All mistakes are found, not the first
// alone, and each is a Diagnostic: the place, the line, and what to write.
//
// A file is read by people who must see in one place what a thing is, so anchors,
// aliases, merge keys and tags are refused. So are unknown keys, keys that are
// there twice, and empty lists.
//
// The package is pure: it opens no file.
package document

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A FileKind is what sets one kind of file apart, in what is said about it.
type FileKind struct {
	Name       string // "policy": it is spoken of as "the policy" and "a policy"
	EmptyHint  string // what the file begins with, as advice to the author of an empty one
	MaxNesting string // how deep it is nested at most: "six levels"
	Mapping    string // a mapping of the kind, in braces, as an example
	// KeyOwners says where keys belong that people put in the wrong place. Each is a
	// key of the kind, with the name of what has it: "a door".
	KeyOwners map[string]string
	// UnknownKey gives advice on an unknown key, and the right key that stands for it;
	// empty where it knows none.
	UnknownKey func(key string) (meant, hint string)
}

// MaxSize is the size of the largest file that is read: a policy of ten thousand
// doors fits.
const MaxSize = 1 << 20

// Parse reads a file of a kind. The name is that of the file, for diagnostics.
// Read is called with the root of the document, if there is one to look at, and
// says through the Walker what is wrong. The error is an *InvalidError with
// everything that is wrong, not the first mistake alone; only text that is not
// YAML hides what follows it. The Source can point at the file later.
func Parse(name string, data []byte, l *FileKind, read func(*Walker, *yaml.Node)) (*Source, error) {
	if len(data) > MaxSize {
		return nil, &InvalidError{Kind: l.Name, Diagnostics: []Diagnostic{{
			File: name, Line: 1, Column: 1,
			Message: "the file is larger than 1 MiB",
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
