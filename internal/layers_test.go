// Package internal holds every other package to its place in the tree.
package internal

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The layers, from the top. A package imports packages of lower layers, and none
// of its own or of a higher one; tests may. docs/design.md says what each is for.
var layers = [][]string{
	{"cmd/postern", "packaging", "bench/packets", "bench/openings", "bench/copy", "bench/timing"},
	{"internal/cli", "bench"},
	{"internal/manual"},
	{"internal/cli/ui"},
	{"internal/client"},
	{"internal/client/knocker"},
	{"internal/draft", "internal/doctor"},
	{"internal/preflight", "internal/demo", "internal/firewall/conformance"},
	{"internal/preflight/otherrules", "internal/lab/labtest"},
	{"internal/migrate", "internal/enroll", "internal/handout", "internal/hosts", "internal/keystore", "internal/keystore/keystoretest", "internal/sshconfig", "examples"},
	{"internal/watchdog"},
	{"internal/change"},
	{"internal/firewall/backends"},
	{"internal/firewall/nftables", "internal/firewall/iptables"},
	{"internal/firewall/verifier"},
	{"internal/firewall/bpf"},
	{"internal/firewall"},
	{"internal/automaton", "internal/keyfile"},
	{"internal/host"},
	{"internal/policy"},
	{"internal/document/documenttest", "internal/rewrite"},
	{"internal/document"},
	{"internal/lab/debian", "internal/lab/impair", "internal/lab/openssh", "internal/lab/prober"},
	{"internal/lab"},
	{"internal/key", "internal/packet", "internal/paragraph"},
	{"internal/descriptor", "internal/lazyregexp", "internal/pause", "internal/secrecy", "internal/systemd", "internal/stealth", "internal/booted", "internal/kernels", "bench/machine", "docs"},
}

// layer returns how far down a package is, or -1 if it has no place.
func layer(name string) int {
	return slices.IndexFunc(layers, func(all []string) bool { return slices.Contains(all, name) })
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// modulePackages returns the packages of the module as one system sees them.
func modulePackages(t *testing.T, system string) []goPackage {
	t.Helper()
	goos, goarch, _ := strings.Cut(system, "/")
	// -e: some packages have no files for this system.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "postern/...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestLayers(t *testing.T) {
	const module = "postern/"
	for _, system := range []string{"linux/amd64", "linux/386", "windows/amd64", "darwin/arm64"} {
		found := map[string]bool{}
		for _, p := range modulePackages(t, system) {
			name := strings.TrimPrefix(p.ImportPath, module)
			found[name] = true
			if name == "internal" {
				continue
			}
			from := layer(name)
			if from < 0 {
				t.Errorf("%s has no layer: give it one in layers_test.go, and a line in docs/design.md", name)
				continue
			}
			for _, imported := range p.Imports {
				to, ours := strings.CutPrefix(imported, module)
				if ours && layer(to) <= from {
					t.Errorf("%s: %s imports %s, which is not in a lower layer", system, name, to)
				}
			}
		}
		for _, name := range slices.Concat(layers...) {
			if !found[name] && system == "linux/amd64" { // which has them all
				t.Errorf("there is no package %s: take it out of layers_test.go", name)
			}
		}
	}
}

// TestCommandFiles: in internal/cli a file is named after its verb, so that a new
// verb touches its own files and one line of root.go.
func TestCommandFiles(t *testing.T) {
	files, err := filepath.Glob("cli/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	verbs := map[string]bool{"root": true, "session": true}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		verb := strings.TrimSuffix(filepath.Base(f), ".go")
		// sshconfig.go has sshConfigCommand.
		if strings.Contains(strings.ToLower(string(text)), " "+verb+"command() *cobra.command {") {
			verbs[verb] = true
		}
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".go")
		if strings.HasSuffix(name, "_test") {
			continue // of the whole program, many of them
		}
		verb, part, _ := strings.Cut(name, "_")
		switch {
		case !verbs[verb]:
			t.Errorf("%s is not about a verb: what several verbs want belongs in a package of its own", f)
		case part != "" && part != "linux" && part != "text":
			t.Errorf("%s: a verb has VERB.go, VERB_linux.go and VERB_text.go", f)
		}
	}
}
