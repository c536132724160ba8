package document

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// maxDepth is how deep the YAML may be nested, so that nothing that walks it
// can be made to recurse far. None of the files needs more than six levels.
const maxDepth = 20

// compose reads the text as one YAML document and gives its root, or nil when
// there is none to walk; what is wrong is found in either case.
func compose(s *Source) (root *yaml.Node, found []finding) {
	// The reader is fuzzed upstream and here, and no input is known to upset
	// it. Should there be one, it must not end a program that guards a host.
	defer func() {
		if r := recover(); r != nil {
			root, found = nil, []finding{{
				at:      Position{Line: 1, Column: 1},
				message: "the YAML reader failed: " + Short(fmt.Sprint(r)),
				hint:    fmt.Sprintf("write the %s in plainer YAML, and report this as a bug", s.language.Name),
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

// PositionOf is where a node begins.
func PositionOf(n *yaml.Node) Position {
	return Position{Line: n.Line, Column: n.Column}
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// indirection finds everything in the document that stands for something written
// elsewhere, or that changes what a value means: anchors, aliases, merge keys
// and tags. An alias is also how nine lines become a billion values.
//
// The nodes are left out of the walk; one finding a line is enough.
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
		u.refuse(n, fmt.Sprintf("the alias *%s is not allowed", Short(n.Value)), "write out here what it stands for")
	case n.Anchor != "":
		u.refuse(n, fmt.Sprintf("the anchor &%s is not allowed", Short(n.Anchor)),
			"remove it, and write the value out wherever it is meant")
	case n.Style&yaml.TaggedStyle != 0:
		u.refuse(n, fmt.Sprintf("the tag %s is not allowed", Short(n.Tag)), fmt.Sprintf("remove it: a %s knows what each value is", u.language.Name))
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Tag == "!!merge" {
			u.refuse(c, "the merge key << is not allowed", "write out here what it merges")
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

// Short cuts what the user wrote to what a message can quote, and makes it
// harmless to print.
func Short(text string) string {
	const most = 40
	if end := offset(text, most); end < len(text) {
		text = text[:end] + "…"
	}
	return visible(text)
}

// Quoted is the user's own word, in quotes.
func Quoted(text string) string {
	return `"` + Short(text) + `"`
}
