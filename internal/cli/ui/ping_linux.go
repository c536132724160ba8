//go:build linux

package ui

const hintPing = "as root: sysctl net.ipv4.ping_group_range=\"0 2147483647\", or run it as root"
