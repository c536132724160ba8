package document

import (
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// An Editor changes a YAML text by entries and items. Everything else stays as it is,
// byte for byte, with its comments. It knows the layouts that people write and not all
// that YAML has, so parse the result: what it says must be what was meant.
//
// A path is the keys of mappings, from the root. Methods do nothing if there is no such
// place, and after an error.
type Editor struct {
	mark string // a byte order mark
	text string
	end  string // of lines
	root *yaml.Node
	err  error
}

// NewEditor returns an editor of a text, which must be a mapping.
func NewEditor(text string) *Editor {
	e := &Editor{end: "\n"}
	e.text, _ = strings.CutPrefix(text, "\ufeff")
	e.mark = text[:len(text)-len(e.text)]
	if first, _, _ := strings.Cut(e.text, "\n"); strings.HasSuffix(first, "\r") {
		e.end = "\r\n"
	}
	e.become(e.text)
	return e
}

// Text returns the text with all changes. The error says that one could not be made.
func (e *Editor) Text() (string, error) { return e.mark + e.text, e.err }

// become takes a text in place of the present one.
func (e *Editor) become(text string) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		e.err = err
		return
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		e.err = errors.New("the document is not a mapping")
		return
	}
	e.text, e.root = text, document.Content[0]
}

// insert inserts text at a byte offset.
func (e *Editor) insert(at int, text string) { e.become(e.text[:at] + text + e.text[at:]) }

// find returns the entry at a path; nil nodes if there is none. The root has no key.
func (e *Editor) find(path ...string) (key, value *yaml.Node) {
	if e.err != nil {
		return nil, nil
	}
	value = e.root
	for _, name := range path {
		m := value
		key, value = nil, nil
		for i := 0; m.Kind == yaml.MappingNode && i+1 < len(m.Content); i += 2 {
			if m.Content[i].Value == name {
				key, value = m.Content[i], m.Content[i+1]
			}
		}
		if value == nil {
			return nil, nil
		}
	}
	return key, value
}

// Has reports whether there is an entry at a path.
func (e *Editor) Has(path ...string) bool {
	_, value := e.find(path...)
	return value != nil
}

// Add adds an entry at the end of the mapping at a path. The value is on one line.
func (e *Editor) Add(path []string, key, value string) {
	_, m := e.find(path...)
	if m == nil || m.Kind != yaml.MappingNode || len(m.Content) == 0 {
		return
	}
	if isFlow(m) {
		e.addInBrackets(m, key+": "+value)
		return
	}
	last := m.Content[len(m.Content)-2]
	e.insertLine(e.after(last, m.Content[len(m.Content)-1]), last.Column-1, key+": "+value)
}

// AddBefore adds an entry to the root, in front of another one and the comments above
// that. The value may be inner lines, of a block.
func (e *Editor) AddBefore(next, key, value string, inner ...string) {
	at, _ := e.find(next)
	if at == nil {
		return
	}
	if isFlow(e.root) {
		e.insert(e.offset(at), key+": "+value+", ")
		return
	}
	lines, line := strings.SplitAfter(e.text, "\n"), at.Line-1
	for line > 0 && strings.HasPrefix(lines[line-1], "#") {
		line--
	}
	text := key + ": " + value + e.end
	if len(inner) > 0 {
		text = key + ":" + e.end + "  " + strings.Join(inner, e.end+"  ") + e.end
	}
	if line > 0 && strings.TrimSpace(lines[line-1]) == "" {
		text += e.end
	}
	e.insert(len(strings.Join(lines[:line], "")), text)
}

// Set gives the entry of a mapping a value on one line, or adds the entry.
func (e *Editor) Set(path []string, key, value string) {
	_, old := e.find(append(slices.Clone(path), key)...)
	switch {
	case old == nil:
	case old.Kind == yaml.ScalarNode || isFlow(old):
		start := e.offset(old)
		end := e.close(old)
		e.become(e.text[:start] + value + e.text[end:])
		return
	default:
		e.Remove(append(slices.Clone(path), key)...)
	}
	e.Add(path, key, value)
}

// Remove removes the entry at a path. Comments above it stay.
func (e *Editor) Remove(path ...string) {
	key, value := e.find(path...)
	_, m := e.find(path[:len(path)-1]...)
	switch {
	case key == nil:
	case isFlow(m):
		e.cut(e.offset(key), e.close(value))
	default:
		e.removeLines(key.Line-1, e.after(key, value))
	}
}

// Append adds an item at the end of the list at a path.
func (e *Editor) Append(item string, path ...string) {
	_, l := e.find(path...)
	switch {
	case l == nil || l.Kind != yaml.SequenceNode || len(l.Content) == 0:
	case isFlow(l):
		e.addInBrackets(l, item)
	default:
		e.insertLine(l.Content[len(l.Content)-1].Line, l.Column-1, "- "+item)
	}
}

// Delete removes an item from the list at a path. A list of one stays empty.
func (e *Editor) Delete(item string, path ...string) {
	_, l := e.find(path...)
	if l == nil || l.Kind != yaml.SequenceNode {
		return
	}
	i := slices.IndexFunc(l.Content, func(n *yaml.Node) bool { return n.Value == item })
	switch {
	case i < 0:
	case isFlow(l):
		e.cut(e.offset(l.Content[i]), e.close(l.Content[i]))
	default:
		e.removeLines(l.Content[i].Line-1, l.Content[i].Line)
	}
}

func isFlow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// offset returns the byte offset of a node.
func (e *Editor) offset(n *yaml.Node) int {
	at := 0
	for range n.Line - 1 {
		at += strings.IndexByte(e.text[at:], '\n') + 1
	}
	return at + offset(e.text[at:], n.Column-1)
}

// close returns the byte offset after a scalar, or after a list or mapping in brackets.
func (e *Editor) close(n *yaml.Node) int {
	start := e.offset(n)
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
		return min(start+len(n.Value), len(e.text))
	}
	depth, quote := 0, byte(0)
	for i := start; i < len(e.text); i++ {
		switch c := e.text[i]; {
		case quote == '"' && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				if quote == '\'' && i+1 < len(e.text) && e.text[i+1] == quote {
					i++
					continue
				}
				quote = 0
			}
		case (c == '"' || c == '\'') && (i == start || strings.IndexByte(" \t\n,[{:", e.text[i-1]) >= 0):
			quote = c
		case c == '#' && i > 0 && strings.IndexByte(" \t\n", e.text[i-1]) >= 0:
			for i+1 < len(e.text) && e.text[i+1] != '\n' {
				i++
			}
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth == 0 && quote == 0 {
			return i + 1
		}
	}
	return len(e.text)
}

// after returns the number of the line after an entry, counted from 0.
func (e *Editor) after(key, value *yaml.Node) int {
	switch last := len(value.Content) - 1; {
	case last < 0 || isFlow(value):
		return max(key.Line, 1+strings.Count(e.text[:e.close(value)], "\n"))
	case value.Kind == yaml.MappingNode:
		return e.after(value.Content[last-1], value.Content[last])
	default:
		return e.after(value.Content[last], value.Content[last])
	}
}

// insertLine inserts a line before line i, counted from 0.
func (e *Editor) insertLine(i, indent int, text string) {
	lines := strings.SplitAfter(e.text, "\n")
	before := strings.Join(lines[:min(i, len(lines))], "")
	if before != "" && !strings.HasSuffix(before, "\n") {
		before += e.end
	}
	e.become(before + strings.Repeat(" ", indent) + text + e.end + strings.Join(lines[min(i, len(lines)):], ""))
}

// removeLines removes lines, counted from 0.
func (e *Editor) removeLines(first, end int) {
	lines := strings.SplitAfter(e.text, "\n")
	e.become(strings.Join(slices.Delete(lines, first, min(end, len(lines))), ""))
}

// addInBrackets adds text at the end of a list or mapping in brackets.
func (e *Editor) addInBrackets(n *yaml.Node, text string) {
	end := e.close(n) - 1
	at := len(strings.TrimRight(e.text[:end], " \t\r\n"))
	if e.text[at-1] != ',' {
		text = ", " + text
	} else {
		text = " " + text
	}
	e.insert(at, text)
}

// cut removes an entry or item in brackets, with its comma.
func (e *Editor) cut(start, end int) {
	rest := strings.TrimLeft(e.text[end:], " \t\r\n")
	if strings.HasPrefix(rest, ",") {
		end = len(e.text) - len(strings.TrimLeft(rest[1:], " \t"))
	} else if before := strings.TrimRight(e.text[:start], " \t\r\n"); strings.HasSuffix(before, ",") {
		start = len(before) - 1
	}
	e.become(e.text[:start] + e.text[end:])
}
