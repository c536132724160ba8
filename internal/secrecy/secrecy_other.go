//go:build !linux

package secrecy

func mask(string) {}

// NoDump does nothing.
func NoDump() {}
