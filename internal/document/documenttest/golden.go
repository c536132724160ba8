// Package documenttest holds what the tests of all kinds of files share: golden
// files of valid and invalid input, and what must hold for any error.
package documenttest

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"postern/internal/document"
)

var update = flag.Bool("update", false, "write what the tests got into testdata")

// Golden runs every archive in a folder of testdata: what run returns for the
// first file must equal the file named want. The first file is named input. If
// its name ends in .quoted, it holds a Go string, for text that an archive
// cannot hold. Golden returns the number of archives.
func Golden(t *testing.T, folder, input, want string, run func(t *testing.T, data []byte) string) int {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens in testdata/%s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.TrimSpace(string(archive.Comment))) == 0 {
				t.Errorf("%s has no comment that describes it", file)
			}
			got := run(t, first(t, archive, input))
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: want, Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) != 2 || archive.Files[1].Name != want {
				t.Fatalf("%s has no second file %q: run the test with -update, and read what it wrote", file, want)
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("%s differs (-want +got); -update writes it:\n%s", want, diff)
			}
		})
	}
	return len(files)
}

func first(t *testing.T, archive *txtar.Archive, input string) []byte {
	t.Helper()
	if len(archive.Files) == 0 {
		t.Fatal("the archive has no file")
	}
	f := archive.Files[0]
	switch {
	case f.Name == input:
		return f.Data
	case strings.HasSuffix(f.Name, ".quoted"):
		text, err := strconv.Unquote(strings.TrimSpace(string(f.Data)))
		if err != nil {
			t.Fatalf("%s is not a Go string: %v", f.Name, err)
		}
		return []byte(text)
	}
	t.Fatalf("the first file of the archive is %q", f.Name)
	return nil
}

// Pointed checks what must hold for any error: it has a message, every
// diagnostic has a place inside the file and shows the line at that place, and
// they are in the order of the file.
func Pointed(t *testing.T, data []byte, e *document.InvalidError) {
	t.Helper()
	if len(e.Diagnostics) == 0 || len(e.Diagnostics) > document.MaxDiagnostics {
		t.Fatalf("%d diagnostics", len(e.Diagnostics))
	}
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	last := document.Position{}
	for _, d := range e.Diagnostics {
		if d.Line < 1 || d.Line > len(lines) {
			t.Fatalf("line %d of %d: %+v", d.Line, len(lines), d)
		}
		if d.Line < last.Line || d.Line == last.Line && d.Column < last.Column {
			t.Errorf("%d:%d comes after %d:%d", d.Line, d.Column, last.Line, last.Column)
		}
		last = document.Position{Line: d.Line, Column: d.Column}
		text := strings.TrimRight(lines[d.Line-1], "\r")
		if d.Source != text && len(data) <= document.MaxSize {
			t.Errorf("line %d is %q, the diagnostic shows %q", d.Line, text, d.Source)
		}
		length := len([]rune(d.Source))
		if d.Column < 1 || d.Column > length+1 || d.Column-1+d.Width > max(length, d.Column) {
			t.Errorf("column %d width %d in a line of %d: %+v", d.Column, d.Width, length, d)
		}
		if d.Message == "" || d.Hint == "" {
			t.Errorf("no message or no hint: %+v", d)
		}
		if strings.Contains(d.Message+d.Hint, "\n") {
			t.Errorf("more than a line: %+v", d)
		}
		if rendered := d.String(); strings.ContainsFunc(rendered, func(r rune) bool {
			return r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f
		}) {
			t.Errorf("a control character would reach the terminal: %q", rendered)
		}
	}
}
