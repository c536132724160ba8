package handout

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"postern/internal/policy"
)

var update = flag.Bool("update", false, "write what the tests got into testdata")

// TestGolden compares what is handed out for the policies of testdata: the
// ports, and for each door both scripts, or the error.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) < 6 {
		t.Fatalf("%d goldens, want at least 6 (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Comment) == 0 || len(archive.Files) == 0 || archive.Files[0].Name != "policy.yaml" {
				t.Fatalf("%s has no comment that describes it, or has no policy", file)
			}
			p := parse(t, string(archive.Files[0].Data))
			got := &txtar.Archive{Comment: archive.Comment, Files: archive.Files[:1:1]}
			add := func(name, text string) {
				got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(text)})
			}
			add("ports", Ports(p))
			for i := range p.Doors {
				d := &p.Doors[i]
				add(d.Name+".sh", result(t, ClientSh, d))
				add(d.Name+".ps1", result(t, ClientPowerShell, d))
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); d != "" {
				t.Errorf("%s differs (-want +got); -update writes it:\n%s", file, d)
			}
		})
	}
}

// result returns a script, or the error in its place.
func result(t *testing.T, write func(*policy.Door) (string, error), d *policy.Door) string {
	t.Helper()
	text, err := write(d)
	var unfit *UnsupportedError
	switch {
	case errors.As(err, &unfit):
		return "error: " + err.Error() + "\nhint: " + unfit.Hint + "\n"
	case err != nil:
		t.Fatal(err)
	}
	plain(t, text)
	return text
}

// plain checks what must hold for any script. It is ASCII, because Windows
// PowerShell 5.1 reads a file without a byte order mark in the machine's own
// code page. The template leaves neither gaps nor trailing blanks.
func plain(t *testing.T, text string) {
	t.Helper()
	for i, r := range text {
		if r > '~' || r < ' ' && r != '\n' && r != '\t' {
			t.Errorf("character %q at %d", r, i)
		}
	}
	if strings.Contains(text, "\n\n\n") || strings.Contains(text, " \n") || !strings.HasSuffix(text, "\n") {
		t.Errorf("loose blanks in\n%s", text)
	}
	if !strings.Contains(text, "do not replace its authentication") {
		t.Error("it does not warn that knocks are not authentication")
	}
}

func parse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
