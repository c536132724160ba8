package preflight

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sources parses the files of a package, without its tests.
func sources(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// constants returns the names and values of the constants of a type.
func constants(t *testing.T, dir, typeName string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, f := range sources(t, dir) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			name := spec.Names[0].Name
			switch value := spec.Values[0].(type) {
			case *ast.BasicLit:
				if of, ok := spec.Type.(*ast.Ident); ok && of.Name == typeName {
					text, err := strconv.Unquote(value.Value)
					if err != nil {
						t.Fatal(err)
					}
					all[name] = text
				}
			case *ast.CallExpr: // Kind(automaton.ShortSequence)
				of, ok := value.Fun.(*ast.Ident)
				if from, isLint := value.Args[0].(*ast.SelectorExpr); ok && isLint && of.Name == typeName {
					all[name] = constants(t, "../automaton", "LintKind")[from.Sel.Name]
				}
			}
			return true
		})
	}
	return all
}

// TestEveryFindingHasAKind: no finding is made without one, each kind is made
// somewhere, and none has the name of another.
func TestEveryFindingHasAKind(t *testing.T) {
	kinds := constants(t, ".", "Kind")
	if len(kinds) < 20 {
		t.Fatalf("%d kinds were read", len(kinds))
	}
	uses := map[string]int{}
	for _, f := range sources(t, ".") {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				uses[n.Name]++
			case *ast.CompositeLit:
				of, elements := n.Type, n.Elts
				if slice, ok := of.(*ast.ArrayType); ok { // []Finding{{...}}
					of = slice.Elt
					for _, e := range elements {
						if inner, ok := e.(*ast.CompositeLit); ok && isFinding(of) {
							needsKind(t, inner)
						}
					}
				} else if isFinding(of) {
					needsKind(t, n)
				}
			}
			return true
		})
	}
	byValue := map[string]string{}
	for name, value := range kinds {
		if other := byValue[value]; other != "" {
			t.Errorf("%s and %s are both %q", name, other, value)
		}
		byValue[value] = name
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(value) {
			t.Errorf("%s is %q: write lower-case words with hyphens", name, value)
		}
		fromLint := slices.Contains(lintKinds(t), value)
		if uses[name] < 2 && !fromLint {
			t.Errorf("no finding is of kind %s", name)
		}
	}
	for _, value := range lintKinds(t) {
		if byValue[value] == "" {
			t.Errorf("automaton warns of %q, which is no Kind", value)
		}
	}
}

func lintKinds(t *testing.T) []string {
	var all []string
	for _, value := range constants(t, "../automaton", "LintKind") {
		all = append(all, value)
	}
	return all
}

func isFinding(e ast.Expr) bool {
	of, ok := e.(*ast.Ident)
	return ok && of.Name == "Finding"
}

func needsKind(t *testing.T, literal *ast.CompositeLit) {
	t.Helper()
	for _, e := range literal.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == "Kind" {
			return
		}
	}
	t.Errorf("a Finding without a Kind: %v", literal.Elts)
}

// TestKindsAreDocumented: docs/findings.md has each kind once, sorted within its
// section, with the severities that exist and a remedy.
func TestKindsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for section := range strings.SplitSeq(string(page), "\n## ") {
		var names []string
		for i, entry := range strings.Split(section, "\n### ") {
			name, text, _ := strings.Cut(entry, "\n")
			if i == 0 {
				continue
			}
			names = append(names, name)
			if !regexp.MustCompile(`(?m)^- (note|warning|error)(, (note|warning|error))*: `).MatchString(text) {
				t.Errorf("%s has no severity", name)
			}
			if !strings.Contains(text, "\n- what to do: ") {
				t.Errorf("%s has no remedy", name)
			}
		}
		if !slices.IsSorted(names) {
			t.Errorf("not sorted: %v", names)
		}
		documented = append(documented, names...)
	}
	var kinds []string
	for _, value := range constants(t, ".", "Kind") {
		kinds = append(kinds, value)
	}
	slices.Sort(kinds)
	slices.Sort(documented)
	if diff := cmp.Diff(kinds, documented); diff != "" {
		t.Errorf("docs/findings.md: -kinds +documented:\n%s", diff)
	}
}
