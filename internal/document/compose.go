package document

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// maxDepth limits the nesting of the YAML, and so the recursion of everything
// that walks it. No file needs more than six levels.
const maxDepth = 20

// compose parses the text as one YAML document. It returns the root, or nil if
// there is nothing to walk, and what it found wrong in either case.
func compose(s *Source) (root *yaml.Node, found []finding) {
	// The YAML parser is fuzzed upstream and here, and no input is known to
	// make it panic. If there is one, it must not crash a program that guards a
	// host.
	defer func() {
		if r := recover(); r != nil {
			root, found = nil, []finding{{
				at:      Position{Line: 1, Column: 1},
				message: "the YAML reader failed: " + Short(fmt.Sprint(r)),
				hint:    fmt.Sprintf("write the %s in simpler YAML, and report this as a bug", s.language.Name),
			}}
		}
	}()

	loader, err := yaml.NewLoader(strings.NewReader(s.text),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, []finding{s.syntax(err)}
	}
	var document yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF):
		return nil, []finding{s.empty()}
	case err != nil:
		return nil, []finding{s.syntax(err)}
	}
	root = document.Content[0]

	var second yaml.Node
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		found = append(found, s.syntax(err))
	default:
		found = append(found, finding{
			at:      PositionOf(&second),
			message: "a second document begins here",
			hint:    fmt.Sprintf("a file holds one %s: remove the \"---\" and all that follows it", s.language.Name),
		})
	}
	if isNull(root) {
		return nil, append(found, s.empty())
	}
	return root, found
}

func (s *Source) empty() finding {
	return finding{
		at:      Position{Line: 1, Column: 1},
		message: fmt.Sprintf("the %s is empty", s.language.Name),
		hint:    s.language.EmptyHint,
	}
}

// PositionOf returns where a node begins.
func PositionOf(n *yaml.Node) Position {
	return Position{Line: n.Line, Column: n.Column}
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// An indirection finds everything in the document that refers to something
// elsewhere or changes what a value means: anchors, aliases, merge keys and
// tags. Aliases are also how nine lines expand to a billion values.
//
// Its nodes are left out of the walk. One finding a line is enough.
type indirection struct {
	language *FileKind
	nodes    map[*yaml.Node]bool
	found    []finding
	reported int // the last line with a finding
}

func findIndirection(root *yaml.Node, l *FileKind) *indirection {
	u := &indirection{language: l, nodes: map[*yaml.Node]bool{}}
	u.visit(root)
	return u
}

func (u *indirection) visit(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		u.refuse(n, fmt.Sprintf("the alias *%s is not allowed", Short(n.Value)), "write the value here")
	case n.Anchor != "":
		u.refuse(n, fmt.Sprintf("the anchor &%s is not allowed", Short(n.Anchor)),
			"remove it, and write the value wherever it is needed")
	case n.Style&yaml.TaggedStyle != 0:
		u.refuse(n, fmt.Sprintf("the tag %s is not allowed", Short(n.Tag)), fmt.Sprintf("remove it: a %s knows what each value is", u.language.Name))
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Tag == "!!merge" {
			u.refuse(c, "the merge key << is not allowed", "write the merged keys here")
			u.nodes[n.Content[i+1]] = true
			continue
		}
		if !u.nodes[c] {
			u.visit(c)
		}
	}
}

func (u *indirection) refuse(n *yaml.Node, message, hint string) {
	u.nodes[n] = true
	if n.Line != u.reported {
		u.found = append(u.found, finding{at: PositionOf(n), message: message, hint: hint})
		u.reported = n.Line
	}
}

// Short shortens user input to what a message can quote, and makes it safe to
// print.
func Short(text string) string {
	const most = 40
	if end := offset(text, most); end < len(text) {
		text = text[:end] + "…"
	}
	return visible(text)
}

// Quoted returns user input in quotes, shortened as by Short.
func Quoted(text string) string {
	return `"` + Short(text) + `"`
}
