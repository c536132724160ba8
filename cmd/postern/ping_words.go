//go:build !linux

package main

const hintPing = "run it as root"
