package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A release is the commit that is packaged.
type release struct {
	version string // as packages order it: "1.2.0", "1.2.0~rc1", or of a commit without a tag
	time    time.Time
	module  string // the top folder of the checkout
}

// readRelease asks git.
func readRelease() (*release, error) {
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	if here, err := os.Getwd(); err != nil || here != top {
		return nil, errors.Join(err, fmt.Errorf("run it in %s", top))
	}
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		if seconds, err = git("log", "-1", "--format=%ct"); err != nil {
			return nil, err
		}
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r := &release{time: time.Unix(n, 0).UTC(), module: top}
	commit, err := git("rev-parse", "--short=8", "HEAD")
	if err != nil {
		return nil, err
	}
	tag, _ := git("describe", "--tags", "--exact-match", "--match", "v[0-9]*") // fails without one
	changes, err := git("status", "--porcelain")
	if err != nil {
		return nil, err
	}
	r.version = version(tag, r.time, commit, changes != "")
	return r, nil
}

// version returns the version of a commit with a tag, or without.
func version(tag string, when time.Time, commit string, changed bool) string {
	v := fmt.Sprintf("0.0.0+git%s.%s", when.Format("20060102150405"), commit)
	if tag != "" { // before a release comes its "~rc1"
		v = strings.ReplaceAll(strings.TrimPrefix(tag, "v"), "-", "~")
	}
	if changed {
		v += "+dirty"
	}
	return v
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
