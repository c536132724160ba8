package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var whole = flag.Bool("packages", false, "build the packages of this commit, twice, and try them")

// TestRelease builds a release of the commit in two folders, and looks at the
// packages with the tools of Debian and of rpm. (internal/booted installs the
// package on a Debian machine.)
func TestRelease(t *testing.T) {
	if !*whole {
		t.Skip("builds the packages, which takes minutes; run it with -packages, or make package-test")
	}
	const only = "linux-amd64,windows-amd64"
	first, second := checkout(t, "one"), checkout(t, "another/folder")
	run(t, first, "go", "run", "./packaging", "-o", "dist", "-only", only)
	run(t, second, "sh", "-c", "umask 077; TZ=Pacific/Apia LANG=C go run ./packaging -o elsewhere -only "+only)
	dist := filepath.Join(first, "dist")

	t.Run("reproducible", func(t *testing.T) {
		a, b := read(t, dist, "SHA256SUMS"), read(t, second, "elsewhere/SHA256SUMS")
		if lines := bytes.Count(a, []byte("\n")); lines != 4 || !bytes.Equal(a, b) {
			t.Errorf("%d files, in one folder:\n%s\nin the other:\n%s", lines, a, b)
		}
		run(t, dist, "sha256sum", "--check", "--strict", "SHA256SUMS")
	})
	t.Run("lintian", func(t *testing.T) {
		t.Log(run(t, dist, "lintian", "--allow-root", "--fail-on=error,warning", one(t, dist, "*.deb")))
	})
	t.Run("rpm", func(t *testing.T) { tryRPM(t, one(t, dist, "*.rpm")) })
	t.Run("archive", func(t *testing.T) {
		run(t, dist, "tar", "-xzf", one(t, dist, "*-linux-amd64.tar.gz"))
		top := strings.TrimSuffix(one(t, dist, "*-linux-amd64.tar.gz"), ".tar.gz")
		version := regexp.MustCompile(`postern-(.*)-linux-amd64$`).FindStringSubmatch(top)[1]
		if said := run(t, top, "./postern", "--version"); !strings.Contains(said, " "+version+" ") {
			t.Errorf("%s is not of version %s", said, version)
		}
		run(t, top, "./postern", "check", "--here=false", "-f", "examples/guard.yaml")
		run(t, top, "man", "--warnings", "-l", "man/man1/postern.1")
	})
}

// checkout returns a clone of the commit in a folder.
func checkout(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	run(t, "..", "git", "clone", "--quiet", "--no-hardlinks", ".", dir)
	return dir
}

// tryRPM installs a package below a root of its own, and removes it, with the
// scripts in it, which need a shell.
func tryRPM(t *testing.T, name string) {
	if os.Geteuid() != 0 {
		t.Skip("installing an rpm needs root")
	}
	root := t.TempDir()
	rpm := func(args ...string) string {
		t.Helper()
		return run(t, root, "rpm", append([]string{"--root", root, "--dbpath", "/var/lib/rpm"}, args...)...)
	}
	putShell(t, root)
	rpm("--initdb")
	// There is no package of a shell in this root.
	rpm("--install", "--nodeps", name)
	rpm("--verify", "--nodeps", "postern")
	for file, want := range map[string]os.FileMode{
		"etc/postern": 0o700, "usr/bin/postern": 0o755, "usr/share/man/man1/postern-up.1.gz": 0o644,
		"usr/lib/systemd/system/postern.service": 0o644, "usr/share/licenses/postern/LICENSE": 0o644,
		"usr/share/zsh/site-functions/_postern": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(root, file)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if said := rpm("--query", "--scripts", "postern"); !strings.Contains(said, "preuninstall scriptlet (using /bin/sh)") {
		t.Errorf("scripts: %s", said)
	}
	run(t, root, "chroot", root, "/usr/bin/postern", "init", "--yes", "--service", "tcp/22")
	rpm("--upgrade", "--force", "--nodeps", name)
	rpm("--erase", "--nodeps", "postern")
	var left []string
	filepath.WalkDir(root, func(path string, d os.DirEntry, _ error) error {
		if strings.Contains(path, "postern") && !strings.Contains(path, "/lib/rpm/") {
			left = append(left, strings.TrimPrefix(path, root))
		}
		return nil
	})
	// The policy is its author's.
	if got := strings.Join(left, " "); !strings.HasSuffix(got, "/etc/postern /etc/postern/policy.yaml") || strings.Count(got, " ") != 1 {
		t.Errorf("left behind: %s", got)
	}
}

// putShell makes a root in which scripts run: busybox, and what it is linked with.
func putShell(t *testing.T, root string) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	linked := run(t, root, "sh", "-c", "ldd "+busybox+" || true")
	for _, path := range append(regexp.MustCompile(`/\S+`).FindAllString(linked, -1), busybox) {
		run(t, root, "sh", "-c", `mkdir -p ".$(dirname "$1")" && cp "$1" ".$1"`, "sh", path)
	}
	run(t, root, "sh", "-c", `mkdir -p bin tmp && for p in sh cat grep rm; do ln -s "$1" bin/$p; done`, "sh", busybox)
}

// one returns the only file that a pattern matches.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found[0]
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// run runs a command in a folder, and returns what it says.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
