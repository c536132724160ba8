package document

import "testing"

// TestEditorTouchesNothingElse: methods at places that are not there change nothing, and
// what no longer is a mapping is an error.
func TestEditorTouchesNothingElse(t *testing.T) {
	const text = "a: {b: [c]} # d\nlist:\n- 'x'\n- y\n"
	for name, change := range map[string]func(*Editor){
		"Add":              func(e *Editor) { e.Add([]string{"b"}, "k", "v") },
		"Add to a list":    func(e *Editor) { e.Add([]string{"list"}, "k", "v") },
		"AddBefore":        func(e *Editor) { e.AddBefore("c", "k", "v") },
		"Set":              func(e *Editor) { e.Set([]string{"a", "c"}, "k", "v") },
		"Remove":           func(e *Editor) { e.Remove("a", "c") },
		"Append":           func(e *Editor) { e.Append("i", "a") },
		"Delete":           func(e *Editor) { e.Delete("z", "list") },
		"Delete elsewhere": func(e *Editor) { e.Delete("x", "a", "b") },
	} {
		e := NewEditor(text)
		change(e)
		if got, err := e.Text(); got != text || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, text := range []string{"", "- a\n", "a: [\n"} {
		e := NewEditor(text)
		e.Remove("a")
		if _, err := e.Text(); err == nil {
			t.Errorf("%q is edited", text)
		}
	}
	e := NewEditor(text)
	e.Set([]string{"a"}, "b", "{")
	if _, err := e.Text(); err == nil {
		t.Error("a broken value is no error")
	}
}

func TestEditor(t *testing.T) {
	for _, test := range []struct {
		name, text, want string
		change           func(*Editor)
	}{
		{"a quote in quotes", "a: {b: 'it''s, [x]', c: \"\\\"}\"}\n", "a: {b: 'it''s, [x]', c: \"\\\"}\", d: e}\n", func(e *Editor) { e.Add([]string{"a"}, "d", "e") }},
		{"the last in brackets", "a: {b: c, d: [e, f]}\n", "a: {b: c}\n", func(e *Editor) { e.Remove("a", "d") }},
		{"the first item", "a: [e , f]\n", "a: [f]\n", func(e *Editor) { e.Delete("e", "a") }},
		{"an item on a line", "a:\n- e # one\n- f\nb: c", "a:\n- f\nb: c", func(e *Editor) { e.Delete("e", "a") }},
		{"after a block", "a:\n  b:\n  - c\n  # of b\n\nd: e", "a:\n  b:\n  - c\n  f: g\n  # of b\n\nd: e", func(e *Editor) { e.Add([]string{"a"}, "f", "g") }},
		{"no line end", "a:\n  b: c", "a:\n  b: c\n  d: e\n", func(e *Editor) { e.Add([]string{"a"}, "d", "e") }},
		{"a block for a line", "a:\n  b:\n    - c\n  d: e\n", "a:\n  d: e\n  b: f\n", func(e *Editor) { e.Set([]string{"a"}, "b", "f") }},
		{"in front of comments", "a: b\n\n# c\nd: e\n", "a: b\n\nf:\n  g: h\n\n# c\nd: e\n", func(e *Editor) { e.AddBefore("d", "f", "", "g: h") }},
	} {
		e := NewEditor(test.text)
		test.change(e)
		if got, err := e.Text(); got != test.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}
