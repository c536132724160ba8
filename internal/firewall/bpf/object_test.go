package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compile compiles a directory with token.c and its headers, as `go generate` does,
// and returns the object.
func compile(t testing.TB, dir string, flags ...string) []byte {
	t.Helper()
	text, err := os.ReadFile("bpf.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), "\n//go:generate ")
	line, _, _ = strings.Cut(line, "\n")
	words := strings.Fields(line)
	out := filepath.Join(t.TempDir(), "token.o")
	words[len(words)-1] = out
	cmd := exec.Command(words[0], append(flags, words[1:]...)...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v (scripts/install-test-tools installs clang-14)\n%s", err, text)
	}
	object, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// TestObjectIsOfItsSource: token.o is what Debian 12's clang-14 makes of token.c.
func TestObjectIsOfItsSource(t *testing.T) {
	if !bytes.Equal(compile(t, "."), object) {
		t.Error("token.o is not of token.c: run go generate")
	}
}
