//go:build !linux

package cli

const hintPing = "run it as root"
