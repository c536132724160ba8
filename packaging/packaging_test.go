package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	epoch   = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	samples = []file{
		{"postern-1/postern", 0o755, []byte("program")},
		{"postern-1/docs/a.md", 0o644, bytes.Repeat([]byte("a page\n"), 10_000)},
		{"postern-1/empty", 0o644, []byte{}},
	}
)

// TestTarball: what is read back is what was put in, of root and of the time given.
func TestTarball(t *testing.T) {
	data, err := tarball(samples, epoch)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if z.Name != "" || !z.ModTime.IsZero() {
		t.Errorf("gzip has the name %q and the time %s", z.Name, z.ModTime)
	}
	var got []file
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, file{h.Name, fs.FileMode(h.Mode), data})
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || h.Gname != "root" || !h.ModTime.Equal(epoch) {
			t.Errorf("%+v", h)
		}
	}
	same(t, got)
	if again, _ := tarball(samples, epoch); !bytes.Equal(data, again) {
		t.Error("the second archive differs")
	}
}

func TestZipped(t *testing.T) {
	data, err := zipped(samples, epoch)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var got []file
	for _, f := range r.File {
		content, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, file{f.Name, f.Mode(), data})
		if !f.Modified.Equal(epoch) {
			t.Errorf("%s has the time %s", f.Name, f.Modified)
		}
	}
	same(t, got)
	if again, _ := zipped(samples, epoch); !bytes.Equal(data, again) {
		t.Error("the second archive differs")
	}
}

func same(t *testing.T, got []file) {
	t.Helper()
	if !slices.EqualFunc(got, samples, func(a, b file) bool { return a.name == b.name && a.mode == b.mode && bytes.Equal(a.data, b.data) }) {
		t.Errorf("got %d files that differ", len(got))
	}
}

func TestCompressed(t *testing.T) {
	f, err := compressed(samples[1])
	if err != nil || f.name != samples[1].name+".gz" {
		t.Fatal(f.name, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(f.data))
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(z); err != nil || !bytes.Equal(data, samples[1].data) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestVersion(t *testing.T) {
	for _, test := range []struct {
		tag     string
		changed bool
		want    string
	}{
		{"v1.2.3", false, "1.2.3"},
		{"v1.2.3-rc1", false, "1.2.3~rc1"},
		{"", false, "0.0.0+git20260102030406.abcdef12"},
		{"", true, "0.0.0+git20260102030406.abcdef12+dirty"},
	} {
		if got := version(test.tag, epoch, "abcdef12", test.changed); got != test.want {
			t.Errorf("tag %q: got %s, want %s", test.tag, got, test.want)
		}
	}
}

// TestContents: the documents, manual pages and completions are there.
func TestContents(t *testing.T) {
	r := &release{version: "1.2.3", time: epoch, module: ".."}
	manual, err := r.manual()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range slices.Concat(r.documents(), manual, r.completions()) {
		if f.mode != 0o644 || len(f.data) == 0 {
			t.Errorf("%s: mode %o, %d bytes", f.name, f.mode, len(f.data))
		}
		found[f.name] = string(f.data)
	}
	for name, text := range map[string]string{
		"README.md": "# Postern", "docs/policy.md": "# The policy file", "examples/guard.yaml": "posture: guard", "LICENSE": "MIT License",
		"man/man1/postern.1": "2026-01-02", "man/man1/postern-up.1": "Postern 1.2.3", "man/man5/postern-policy.5": "posture",
		"completions/bash/postern": "bash completion", "completions/zsh/_postern": "#compdef postern",
		"completions/fish/postern.fish": "complete -c postern", "completions/powershell/postern.ps1": "Register-ArgumentCompleter",
	} {
		if !strings.Contains(found[name], text) {
			t.Errorf("%s does not contain %q", name, text)
		}
	}
	if want := "postern (1.2.3-1) unstable; urgency=medium\n\n  * Version 1.2.3.\n\n" +
		" -- The Postern authors <postern@packages.invalid>  Fri, 02 Jan 2026 03:04:06 +0000\n"; r.changelog() != want {
		t.Errorf("changelog:\n%s", r.changelog())
	}
}

// TestNfpm: nfpm.yaml says what the changelog says.
func TestNfpm(t *testing.T) {
	r := &release{module: ".."}
	config := string(read(t, ".", "nfpm.yaml"))
	for _, line := range []string{"maintainer: " + maintainer, `release: "` + revision + `"`} {
		if !strings.Contains(config, "\n"+line+"\n") {
			t.Errorf("nfpm.yaml has no line %q", line)
		}
	}
	// The licence of the packages is the project's.
	text := strings.ReplaceAll(string(read(t, ".", "copyright")), "\n ", "\n")
	text = strings.ReplaceAll(text, "\n.\n", "\n\n")
	_, rest, _ := strings.Cut(r.document("LICENSE"), "Permission is")
	if !strings.Contains(text, "Permission is"+rest) {
		t.Error("copyright has not the text of LICENSE")
	}
}
