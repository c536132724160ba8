package main

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"postern/internal/systemd"
)

// packages makes the packages of a target. nfpm.yaml says what is in them; the files
// that it names are laid out in a folder of their own.
func (r *release) packages(t target, out, stage string, binary file, manual []file) error {
	root := filepath.Join(stage, t.name()+".root")
	all := append(r.documents(), r.completions()...)
	for _, page := range manual {
		page, err := compressed(page)
		if err != nil {
			return err
		}
		all = append(all, page)
	}
	for _, unit := range systemd.Files("/usr/bin/postern") {
		if path.Dir(unit.Path) == "." { // drop-ins for others' units are not installed by a package
			all = append(all, file{"units/" + unit.Path, 0o644, []byte(unit.Text)})
		}
	}
	changelog, err := compressed(file{"changelog.Debian", 0o644, []byte(r.changelog())})
	if err != nil {
		return err
	}
	for _, f := range append(all, changelog, binary) {
		if err := put(root, f); err != nil {
			return err
		}
	}
	for _, format := range []string{"deb", "rpm"} {
		cmd := exec.Command("go", "tool", "-modfile=tools/go.mod", "nfpm", "package",
			"--config", "packaging/nfpm.yaml", "--packager", format, "--target", out+"/")
		cmd.Env = append(os.Environ(), "STAGE="+root, "VERSION="+r.version, "ARCH="+t.arch,
			fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix()))
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nfpm: %w\n%s", err, said)
		}
	}
	return nil
}

// put writes a file into a folder.
func put(root string, f file) error {
	name := filepath.Join(root, filepath.FromSlash(f.name))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, f.data, f.mode); err != nil {
		return err
	}
	return os.Chmod(name, f.mode) // whatever the umask is
}

// changelog returns the changelog in Debian's format. What has changed is in the
// notes of a release.
func (r *release) changelog() string {
	return fmt.Sprintf("postern (%s-%s) unstable; urgency=medium\n\n  * Version %s.\n\n -- %s  %s\n",
		r.version, revision, r.version, maintainer, strings.Replace(r.time.Format("Mon, 02 Jan 2006 15:04:05 MST"), "UTC", "+0000", 1))
}

// As nfpm.yaml has them.
const (
	revision   = "1"
	maintainer = "The Postern authors <postern@packages.invalid>"
)
