package manual_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/cli"
	"postern/internal/cli/ui"
	"postern/internal/manual"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func pages(t *testing.T) map[string]manual.Page {
	t.Helper()
	source := manual.Source{
		Root: cli.Command(io.Discard), Readme: read(t, "README.md"),
		Policy: read(t, "docs/policy.md"), Hosts: read(t, "docs/hosts.md"),
		Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Version: "1.2.3",
	}
	all, err := source.Pages()
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]manual.Page{}
	for _, p := range all {
		by[p.File()] = p
	}
	return by
}

// TestEveryVerb: each verb has a page, which names each of its flags and examples.
func TestEveryVerb(t *testing.T) {
	all := pages(t)
	for _, file := range []string{"postern.1", "postern-policy.5", "postern-hosts.5"} {
		if _, there := all[file]; !there {
			t.Errorf("no page %s", file)
		}
	}
	verbs := 0
	for _, cmd := range cli.Command(io.Discard).Commands() {
		if !cmd.IsAvailableCommand() {
			continue
		}
		verbs++
		p, there := all["postern-"+cmd.Name()+".1"]
		if !there {
			t.Errorf("no page of %s", cmd.Name())
			continue
		}
		plain := format(t, p)
		for _, f := range ui.Flags(cmd) {
			if !strings.Contains(plain, strings.TrimSpace(f.Names+f.Value)) {
				t.Errorf("%s does not name the flag %q", p.File(), f.Names+f.Value)
			}
		}
		for example := range strings.Lines(cmd.Example) {
			if !strings.Contains(plain, strings.TrimSpace(example)) {
				t.Errorf("%s does not have the example %q", p.File(), example)
			}
		}
		if !strings.Contains(all["postern.1"].Text, `postern\-`+strings.ReplaceAll(cmd.Name(), "-", `\-`)) {
			t.Errorf("postern.1 does not name %s", cmd.Name())
		}
	}
	if verbs < 10 || len(all) < verbs+3 {
		t.Errorf("%d pages of %d verbs", len(all), verbs)
	}
}

// format returns a page as a terminal of 80 columns shows it, without bold.
func format(t *testing.T, p manual.Page) string {
	t.Helper()
	cmd := exec.Command("mandoc", "-T", "utf8", "-O", "width=78")
	cmd.Stdin = strings.NewReader(p.Text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("mandoc %s: %v", p.File(), err)
	}
	return string(overstrike.ReplaceAll(out, nil))
}

var overstrike = regexp.MustCompile(`.\x08`)

// TestLint: mandoc finds nothing to warn of, and no line is wider than a terminal.
func TestLint(t *testing.T) {
	for file, p := range pages(t) {
		cmd := exec.Command("mandoc", "-T", "lint", "-W", "warning")
		cmd.Stdin = strings.NewReader(p.Text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
		for line := range strings.Lines(format(t, p)) {
			// A key cannot be broken.
			long := func(word string) bool { return len(word) > 70 }
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 && !slices.ContainsFunc(strings.Fields(line), long) {
				t.Errorf("%s: %d columns: %s", file, n, line)
			}
		}
	}
}

// TestGroff: groff, which most Linux systems have, takes the pages as well.
func TestGroff(t *testing.T) {
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("no groff")
	}
	for file, p := range pages(t) {
		cmd := exec.Command("groff", "-man", "-ww", "-Tutf8", "-z")
		cmd.Stdin = strings.NewReader(p.Text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
