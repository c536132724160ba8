package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A target is a system and processor to build for.
type target struct {
	os, arch string
	arm      string // the version of a 32-bit ARM
	packages bool   // of Debian, and of rpm
}

// 32-bit Linux has the client alone.
var targets = []target{
	{os: "linux", arch: "amd64", packages: true},
	{os: "linux", arch: "arm64", packages: true},
	{os: "linux", arch: "arm", arm: "7"},
	{os: "darwin", arch: "amd64"},
	{os: "darwin", arch: "arm64"},
	{os: "freebsd", arch: "amd64"},
	{os: "freebsd", arch: "arm64"},
	{os: "windows", arch: "amd64"},
	{os: "windows", arch: "arm64"},
}

// name returns what archives call the target.
func (t target) name() string {
	if t.arm != "" {
		return fmt.Sprintf("%s-%sv%s", t.os, t.arch, t.arm)
	}
	return t.os + "-" + t.arch
}

// binary builds the program for a target, by way of a file in a folder.
func (r *release) binary(t target, folder string) (file, error) {
	fmt.Println("building for", t.name())
	f := file{name: "postern", mode: 0o755}
	if t.os == "windows" {
		f.name += ".exe"
	}
	path := filepath.Join(folder, t.name())
	// Not what go finds of git: it looks in some checkouts only.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -X postern/internal/cli.release="+r.version, "-o", path, "./cmd/postern")
	// The settings that would change the result.
	cmd.Env = append(os.Environ(), "GOOS="+t.os, "GOARCH="+t.arch, "GOARM="+t.arm, "CGO_ENABLED=0",
		"GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return f, fmt.Errorf("building for %s: %w", t.name(), err)
	}
	var err error
	f.data, err = os.ReadFile(path)
	return f, err
}
