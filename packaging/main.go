// Command packaging builds what a release consists of: packages for Debian and for
// systems with rpm, archives for the others, and their checksums.
//
//	go run ./packaging -o dist
//
// It runs in the top folder of a checkout. The same commit makes the same files,
// byte for byte, in any folder and at any time: everything in them has the time of
// the commit ($SOURCE_DATE_EPOCH, if that is set) and belongs to root, and is in a
// fixed order. Only another version of Go may make others.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	out := flag.String("o", "dist", "the `FOLDER` to write to; what is in it is removed")
	only := flag.String("only", "", "build for these `TARGETS` alone, as in linux-amd64,darwin-arm64")
	flag.Parse()
	if err := build(*out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// build makes everything in a folder, or what is for some targets only.
func build(out, only string) error {
	r, err := readRelease()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "postern-packaging-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	manual, err := r.manual()
	if err != nil {
		return err
	}
	for _, t := range targets {
		if only != "" && !slices.Contains(strings.Split(only, ","), t.name()) {
			continue
		}
		binary, err := r.binary(t, stage)
		if err != nil {
			return err
		}
		if err := r.archive(t, out, slices.Concat([]file{binary}, r.documents(), manual, r.completions())); err != nil {
			return err
		}
		if !t.packages {
			continue
		}
		if err := r.packages(t, out, stage, binary, manual); err != nil {
			return err
		}
	}
	return sums(out)
}

// sums writes SHA256SUMS, as sha256sum -c reads it.
func sums(folder string) error {
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, f := range files { // in the order of their names
		data, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), f.Name())
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), []byte(b.String()), 0o644)
}
