package iptables

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// TestOtherVariant: a machine that has changed from one variant to the other still
// runs the rules of the first. They are seen, and the next Apply takes their place.
func TestOtherVariant(t *testing.T) {
	t.Parallel()
	const file, next = "testdata/guard.yaml", "testdata/everything.yaml"
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		first := Backend{Variant: variants[0]}
		if b == first {
			first.Variant = variants[1]
		}
		has := func(h *lab.Host, b Backend) bool {
			return strings.Contains(listed(t, h, program(b.Variant, IPv4, "save"))+listed(t, h, program(b.Variant, IPv6, "save")), prefix)
		}
		h := lab.NewT(t).Host("host")
		apply(t, h, first, file)
		if s := labtest.Inspect(t, h, b); !s.Loaded || s.Altered || s.Digest != b.Digest(machine(t, file)) {
			t.Errorf("by the other variant: %+v", s)
		}
		apply(t, h, b, next)
		if s := labtest.Inspect(t, h, b); s.Altered || s.Digest != b.Digest(machine(t, next)) {
			t.Errorf("by this one: %+v", s)
		}
		if has(h, first) || !has(h, b) {
			t.Errorf("there are older rules: %v, and newer ones: %v", has(h, first), has(h, b))
		}
		m := machine(t, file)
		if err := h.Do(func() error { _, err := first.replace(Compile(m)); return err }); err != nil { // as a kill would leave it
			t.Fatal(err)
		}
		if s := labtest.Inspect(t, h, b); !s.Altered || !s.Loaded {
			t.Errorf("by both: %+v", s)
		}
		remove(t, h, b)
		if has(h, first) || has(h, b) {
			t.Errorf("after down there are rules of one: %v, and of the other: %v", has(h, first), has(h, b))
		}
	})
}

// TestOldPrograms: an iptables-restore from before 1.6.2 takes what it is given. It
// passes over long options that it does not know (--wait, and --version), but wants
// to read the rules from a file that is named as the word after them.
func TestOldPrograms(t *testing.T) {
	b := Backend{Variant: "legacy"}
	v, err := b.Version()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range families {
		name := program(b.Variant, f, "restore")
		real, err := find(name)
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf(`#!/bin/sh
for word; do
	shift
	case "$word" in
	--noflush | --counters | --test) set -- "$@" "$word" ;;
	-*) echo "%[1]s: unrecognized option '$word'" >&2 ;;
	*) echo "Can't open $word: No such file or directory" >&2; exit 1 ;;
	esac
done
exec %[2]s "$@"
`, name, real)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	h := lab.NewT(t).Host("host")
	apply(t, h, b, "testdata/everything.yaml")
	if s := labtest.Inspect(t, h, b); !s.Loaded || s.Altered {
		t.Errorf("it is inspected as %+v", s)
	}
	remove(t, h, b)
	// A restore program this old prints no version: its companion is asked.
	if old, err := b.Version(); err != nil || old.String() != v.String() {
		t.Errorf("the version is %v (%v), want %v", old, err, v)
	}
}

// TestSince: from version 1.6.2 on, programs can wait for the lock.
func TestSince(t *testing.T) {
	for number, want := range map[string]bool{
		"1.4.7": false, "1.4.21": false, "1.6.0": false, "1.6.1": false, "1.6.2": true, "1.8.9": true, "1.8.10": true, "1.10": true, "2": true, "": false,
	} {
		if got := (Version{Number: number}).since(1, 6, 2); got != want {
			t.Errorf("%q: got %v", number, got)
		}
	}
}
