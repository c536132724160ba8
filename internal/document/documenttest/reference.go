package documenttest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

// A Reference is a page that describes every key of a kind of file, in sections
// with an article for each key. Check asks the parser what it reads and compares:
// the parser's own messages name the keys of a mapping, the shape of a value, what
// leaving a key out means, and what is allowed.
type Reference struct {
	Page   string // its path
	Parse  func(text []byte) error
	Owners map[string]string // the KeyOwners of the kind of file
	Levels []Level
	ByName []string // keys whose value is a mapping by names, whose values are a level
}

// A Level is a mapping that has keys of its own.
type Level struct {
	Heading  string            // of its section of the page
	Wrap     string            // puts its keys, in braces, into a file
	Keys     map[string]string // a valid mapping, without what can be left out
	Optional bool              // any one of the keys may be left out
	// Beside is the valid mapping, instead of Keys, for a key that does not go
	// with them.
	Beside map[string]map[string]string
}

// A reader asks the parser about a level.
type reader struct {
	*Reference
	Level
}

// said returns what the parser finds wrong with a mapping in which these keys
// take the place of the valid ones.
func (l reader) said(keys map[string]string) []string {
	whole := maps.Clone(l.Keys)
	for key := range keys {
		if beside, there := l.Beside[key]; there {
			whole = maps.Clone(beside)
		}
	}
	if whole == nil {
		whole = map[string]string{}
	}
	maps.Copy(whole, keys)
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(whole)) {
		parts = append(parts, key+": "+whole[key])
	}
	var invalid *document.InvalidError
	if !errors.As(l.Parse([]byte(fmt.Sprintf(l.Wrap, "{"+strings.Join(parts, ", ")+"}"))), &invalid) {
		return nil
	}
	var said []string
	for _, d := range invalid.Diagnostics {
		said = append(said, d.Message, d.Hint)
	}
	return said
}

// match returns what the first of the sentences that fits has in parentheses.
func match(pattern string, sentences []string) []string {
	for _, s := range sentences {
		if found := regexp.MustCompile(pattern).FindStringSubmatch(s); found != nil {
			return found[1:]
		}
	}
	return nil
}

// read asks the parser for the keys of the level, in its order.
func (l reader) read() []string {
	found := match(`^the keys of .* are (.*)$`, l.said(map[string]string{"zzzzz": "1"}))
	if found == nil {
		return nil
	}
	return strings.Split(found[0], ", ")
}

// shape asks the parser for the kind of YAML that a key takes.
func (l reader) shape(key string) string {
	for _, value := range []string{"a", "[a]", "{a: a}"} {
		if found := match(`^`+key+` must be (one value|a list|one value or a list|a mapping), not`, l.said(map[string]string{key: value})); found != nil {
			return found[0]
		}
	}
	return ""
}

// absent asks the parser what leaving a key out means; empty: it is required.
func (l reader) absent(key string) string {
	if found := match(`, or leave it out to mean (.*)$`, l.said(map[string]string{key: ""})); found != nil {
		return found[0]
	}
	return ""
}

// allowed asks the parser which values it takes, where these are few or a range.
func (l reader) allowed(key string) []string {
	for _, value := range []string{"zzzzz", "1ns", "9999999999"} {
		said := l.said(map[string]string{key: value})
		if found := match(`from (\d\w*) to (\d\w*)`, said); found != nil && match(`^(port|`+key+` must)`, said) == nil {
			return found
		}
		if found := match(`^write (\w+(?:, \w+)* or \w+)$`, said); found != nil {
			return regexp.MustCompile(`, | or `).Split(found[0], -1)
		}
		if found := match(`^`+key+` must be the number (\d+)$`, said); found != nil {
			return found
		}
	}
	return nil
}

// An article is what the page says about a key: the words after "- type:" and so
// on, by that word.
type article map[string]string

// articles returns the articles of the page by section, and their order.
func (r *Reference) articles(t *testing.T) (articles map[string]map[string]article, order map[string][]string) {
	t.Helper()
	text, err := os.ReadFile(r.Page)
	if err != nil {
		t.Fatal(err)
	}
	articles, order = map[string]map[string]article{}, map[string][]string{}
	var section, key, item string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section, key, item = heading, "", ""
			articles[section] = map[string]article{}
		} else if heading, ok := strings.CutPrefix(line, "### "); ok {
			key, item = heading[strings.LastIndex(heading, " ")+1:], ""
			articles[section][key] = article{}
			order[section] = append(order[section], key)
		} else if found := match(`^- (\w+): (.*)$`, []string{line}); found != nil && key != "" {
			item = found[0]
			articles[section][key][item] = found[1]
		} else if rest, ok := strings.CutPrefix(line, "  "); ok && item != "" {
			articles[section][key][item] += " " + rest
		}
	}
	return articles, order
}

var codeSpan = regexp.MustCompile("`([^`]*)`")

func codeSpans(text string) []string {
	var all []string
	for _, found := range codeSpan.FindAllStringSubmatch(text, -1) {
		all = append(all, found[1])
	}
	return all
}

// Check fails the test where the page and the parser disagree.
func (r *Reference) Check(t *testing.T) {
	articles, order := r.articles(t)
	for _, level := range r.Levels {
		l := reader{r, level}
		keys := l.read()
		if len(keys) == 0 {
			t.Fatalf("the parser names no keys of %q", l.Heading)
		}
		if d := cmp.Diff(keys, order[l.Heading]); d != "" {
			t.Errorf("%s, section %q: the keys of the parser (-) and of the page (+)\n%s", r.Page, l.Heading, d)
		}
		for _, key := range keys {
			if r.Owners[key] == "" {
				t.Errorf("KeyOwners says nothing of %s, for who writes it in the wrong place", key)
			}
			// Every mapping that the parser reads is a level, or is keyed by names.
			named := slices.ContainsFunc(r.Levels, func(l Level) bool { return l.Heading == key })
			if l.shape(key) == "a mapping" && !named && !slices.Contains(r.ByName, key) {
				t.Errorf("%s has keys of its own: add it to the levels, and a section to %s", key, r.Page)
			}
			if a := articles[l.Heading][key]; a != nil {
				t.Run(l.Heading+"/"+key, func(t *testing.T) { a.check(t, l, key) })
			}
		}
		delete(articles, l.Heading)
	}
	for heading := range articles {
		t.Errorf("%s has a section %q, and no mapping of the file goes with it", r.Page, heading)
	}
}

// check compares an article with what the parser says.
func (a article) check(t *testing.T, l reader, key string) {
	if want := l.shape(key); a["type"] != want {
		t.Errorf("type: the page says %q, the parser %q", a["type"], want)
	}
	want := l.absent(key)
	if want == "" && !l.Optional {
		want = "none; required"
	}
	if a["default"] != want {
		t.Errorf("default: the page says %q, the parser %q", a["default"], want)
	}
	if want := l.allowed(key); want != nil {
		if d := cmp.Diff(want, codeSpans(a["allowed"])); d != "" {
			t.Errorf("allowed: the parser (-), the page (+)\n%s", d)
		}
	}
	examples, refused := codeSpans(a["example"]), codeSpans(a["refused"])
	if len(examples) != 1 || len(refused) == 0 {
		t.Fatalf("%d examples, %d refused values", len(examples), len(refused))
	}
	if said := l.said(fieldsOf(t, examples[0])); said != nil {
		t.Errorf("example %q: the parser says %q", examples[0], said)
	}
	for _, value := range refused {
		if l.said(map[string]string{key: value}) == nil {
			t.Errorf("refused: the parser takes %q", value)
		}
	}
}

// fieldsOf takes "a: 1, b: 2" apart.
func fieldsOf(t *testing.T, text string) map[string]string {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte("{"+text+"}"), &n); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	keys := map[string]string{}
	content := n.Content[0].Content
	for i := 0; i < len(content); i += 2 {
		end := len(text)
		if i+2 < len(content) {
			end = content[i+2].Column - 2
		}
		start := content[i+1].Column - 2
		keys[content[i].Value] = strings.TrimRight(text[start:end], ", ")
	}
	return keys
}
