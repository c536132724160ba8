//go:build !linux

package ui

const hintPing = "run it as root"
