//go:build linux

package kernels

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/lab/debian"
)

var (
	//go:embed root.sh
	rootScript string
	//go:embed kernel.sh
	kernelScript string
)

// A system is a Debian and one of the kernels that it packages.
type system struct {
	root    string // the directory of the Debian
	rootIn  string // an archive of it
	kernel  string // the image
	modules string // an archive of the kernel's modules
	version string // of the kernel, as uname has it
}

// debianRoot returns the directory that root.sh has made for a Debian release, in which
// root is the system.
func debianRoot(t *testing.T, release string) string {
	t.Helper()
	dir, unlock, err := debian.Cache("kernels", rootScript)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	dir = filepath.Join(dir, release)
	if err := debian.Build(dir, rootScript, release); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newSystem returns the system that a name stands for: a Debian release, or its
// backports, which have the newest kernel.
func newSystem(t *testing.T, name string) *system {
	t.Helper()
	release, backports := strings.CutSuffix(name, "-backports")
	base := debianRoot(t, release)
	dir, unlock, err := debian.Cache("kernels", rootScript+kernelScript)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	dir = filepath.Join(dir, name)
	args := []string{filepath.Join(base, "root")}
	if backports {
		args = append(args, name)
	}
	if err := debian.Build(dir, kernelScript, args...); err != nil {
		t.Fatal(err)
	}
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		t.Fatal(err)
	}
	return &system{
		root:    filepath.Join(base, "root"),
		rootIn:  filepath.Join(base, "root.cpio"),
		kernel:  filepath.Join(dir, "vmlinuz"),
		modules: filepath.Join(dir, "modules.cpio"),
		version: strings.TrimSpace(string(version)),
	}
}
