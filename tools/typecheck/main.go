// Command typecheck reports whether a package would compile for other systems
// and processors, in a tenth of the time that compiling takes. It type-checks
// the package and everything that it imports, including the standard library.
// It misses errors that only the compiler or the linker finds.
//
//	typecheck FOLDER PACKAGE SYSTEM/PROCESSOR...
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: typecheck FOLDER PACKAGE SYSTEM/PROCESSOR...")
		os.Exit(2)
	}
	sound := true
	for _, target := range os.Args[3:] {
		if err := check(os.Args[1], os.Args[2], target); err != nil {
			fmt.Fprintf(os.Stderr, "typecheck: for %s: %v\n", target, err)
			sound = false
		}
	}
	if !sound {
		os.Exit(1)
	}
}

// check loads a package for a target from source, and prints errors in it or in
// its imports.
func check(folder, name, target string) error {
	system, processor, found := strings.Cut(target, "/")
	if !found {
		return fmt.Errorf("%q is not SYSTEM/PROCESSOR", target)
	}
	loaded, err := packages.Load(&packages.Config{
		Dir: folder,
		Env: append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "CGO_ENABLED=0"),
		// With the syntax of all dependencies, nothing has to be compiled.
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedDeps | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedTypesSizes,
	}, name)
	switch {
	case err != nil:
		return err
	case len(loaded) == 0:
		return fmt.Errorf("package %q not found", name)
	}
	if n := packages.PrintErrors(loaded); n > 0 {
		return fmt.Errorf("%d errors", n)
	}
	return nil
}
