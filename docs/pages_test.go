// Package docs holds the pages about Postern. Its tests keep them true where that
// can be seen from outside the program.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const width = 80 // columns, of a terminal

// pages returns the text of every page, by its path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no pages at %s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all[path.Join("docs", filepath.ToSlash(file))] = string(text)
		}
	}
	return all
}

func TestLinesFit(t *testing.T) {
	for page, text := range pages(t) {
		for i, line := range strings.Split(text, "\n") {
			// A key or a link cannot be broken.
			long := func(word string) bool { return len(word) > width-10 }
			if n := utf8.RuneCountInString(line); n > width && !slices.ContainsFunc(strings.Fields(line), long) {
				t.Errorf("%s:%d has %d columns, at most %d fit", page, i+1, n, width)
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	unnamed = regexp.MustCompile(`[^\w\- ]`)
)

// anchors returns the names by which GitHub links to the headings of a page.
func anchors(text string) map[string]bool {
	all, seen := map[string]bool{}, map[string]int{}
	for _, found := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		name := strings.ReplaceAll(unnamed.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")
		if n := seen[name]; n > 0 {
			all[fmt.Sprintf("%s-%d", name, n)] = true
		} else {
			all[name] = true
		}
		seen[name]++
	}
	return all
}

func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, hasAnchor := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			if target = path.Join(path.Dir(page), target); found[1][0] == '#' {
				target = page
			}
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(target))); err != nil {
				t.Errorf("%s links to %s: %v", page, found[1], err)
			} else if hasAnchor && !anchors(all[target])[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", page, found[1], target)
			}
		}
	}
}

// treeLine is a line of the tree: an indent, and one or more directories.
var treeLine = regexp.MustCompile(`^    ( *)([a-z0-9]+/\S*)`)

// TestTreeIsTrue: the tree of design.md names every package, and no other.
func TestTreeIsTrue(t *testing.T) {
	_, rest, _ := strings.Cut(pages(t)["docs/design.md"], "\n## The tree\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	named, parent := map[string]bool{}, ""
	whole := map[string]bool{} // named with all that is below them: "examples/  docs/"
	for line := range strings.Lines(section) {
		found := treeLine.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if found[1] == "" {
			parent = found[2]
			named[path.Clean(parent)] = true
			for i, word := range strings.Fields(line) {
				if i > 0 && strings.HasSuffix(word, "/") {
					named[path.Clean(word)], whole[path.Clean(word)], whole[path.Clean(parent)] = true, true, true
				}
			}
			continue
		}
		named[path.Join(parent, found[2])] = true
	}
	if len(named) < 20 {
		t.Fatalf("the tree names %d directories: it was not read", len(named))
	}
	for dir := range named {
		if info, err := os.Stat(filepath.Join("..", filepath.FromSlash(dir))); err != nil || !info.IsDir() {
			t.Errorf("the tree names %s, which is not there", dir)
		}
	}
	packages := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || name != ".." && strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case strings.HasSuffix(name, ".go"):
			packages[path.Dir(path.Join("docs", filepath.ToSlash(file)))] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range packages {
		top, _, _ := strings.Cut(dir, "/")
		if !named[dir] && !whole[top] {
			t.Errorf("the tree does not name %s", dir)
		}
	}
}
