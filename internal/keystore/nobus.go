//go:build !(linux || netbsd || openbsd)

package keystore

// reachable returns nil: a store is the system's, and not the session's, or there is none.
func reachable() error { return nil }
