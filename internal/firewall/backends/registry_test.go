//go:build linux && !(386 || arm || mips || mipsle)

package backends_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"postern/internal/firewall/backends"
)

// TestConformanceIsRun: a backend that is registered is one that the conformance
// suite holds to the reference, in a test of its own package.
func TestConformanceIsRun(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range backends.All() {
		if seen[b.Name()] {
			t.Errorf("two backends are called %s", b.Name())
		}
		seen[b.Name()] = true
		folder := filepath.Join("..", path.Base(reflect.TypeOf(b).PkgPath()))
		if !runsConformance(t, folder) {
			t.Errorf("backend %s: no test in %s calls conformance.Run", b.Name(), folder)
		}
	}
}

// TestOtherSystemsKnowThem: where rules cannot be loaded, policies are compiled for
// the same backends.
func TestOtherSystemsKnowThem(t *testing.T) {
	text, err := os.ReadFile("compile.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range backends.All() {
		if !strings.Contains(string(text), `compiler{"`+b.Name()+`"`) {
			t.Errorf("compile.go has no compiler of %s", b.Name())
		}
	}
}

// runsConformance reports whether a test in a folder calls the suite.
func runsConformance(t *testing.T, folder string) (runs bool) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if of, ok := call.Fun.(*ast.SelectorExpr); ok {
					name, ok := of.X.(*ast.Ident)
					runs = runs || ok && name.Name == "conformance" && of.Sel.Name == "Run"
				}
			}
			return true
		})
	}
	return runs
}
