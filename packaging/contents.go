package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"postern/internal/cli"
	"postern/internal/manual"
)

// A file of an archive or a package.
type file struct {
	name string // with slashes
	mode fs.FileMode
	data []byte
}

// documents returns the pages about the program, and policies to start from. Links
// between them lead to the same places as in a checkout.
func (r *release) documents() []file {
	var all []file
	for _, pattern := range []string{"README.md", "LICENSE", "SECURITY.md", "docs/*.md", "examples/*.yaml"} {
		names, err := filepath.Glob(filepath.Join(r.module, filepath.FromSlash(pattern)))
		if err != nil || len(names) == 0 {
			panic("packaging: no files " + pattern)
		}
		for _, name := range names { // sorted
			data, err := os.ReadFile(name)
			if err != nil {
				panic(err)
			}
			all = append(all, file{path.Join(path.Dir(pattern), filepath.Base(name)), 0o644, data})
		}
	}
	return all
}

// document returns one of them.
func (r *release) document(name string) string {
	for _, f := range r.documents() {
		if f.name == name {
			return string(f.data)
		}
	}
	panic("packaging: no file " + name)
}

// manual returns the manual pages: man/man1/postern.1.
func (r *release) manual() ([]file, error) {
	source := manual.Source{
		Root: cli.Command(io.Discard), Readme: r.document("README.md"),
		Policy: r.document("docs/policy.md"), Hosts: r.document("docs/hosts.md"),
		Date: r.time, Version: r.version,
	}
	pages, err := source.Pages()
	if err != nil {
		return nil, err
	}
	var all []file
	for _, p := range pages {
		all = append(all, file{fmt.Sprintf("man/man%d/%s", p.Section, p.File()), 0o644, []byte(p.Text)})
	}
	return all, nil
}

// completions returns the scripts for shells, as "postern completion" prints them.
func (r *release) completions() []file {
	var all []file
	for _, shell := range []struct{ name, file string }{
		{"bash", "postern"}, {"fish", "postern.fish"}, {"powershell", "postern.ps1"}, {"zsh", "_postern"},
	} {
		all = append(all, file{"completions/" + shell.name + "/" + shell.file, 0o644, completion(shell.name)})
	}
	return all
}

func completion(shell string) []byte {
	var b bytes.Buffer
	root := cli.Command(&b)
	root.SetArgs([]string{"completion", shell})
	if err := root.Execute(); err != nil {
		panic(err)
	}
	return b.Bytes()
}
