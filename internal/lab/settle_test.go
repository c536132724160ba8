//go:build linux

package lab

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Settle fails if a marker does not arrive: here one of a type that no socket
// listens for.
func TestMarkerLost(t *testing.T) {
	l := NewT(t)
	l.Connect(l.Host("a"), l.Host("b"))
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	l.markers[0].frame[13]++
	soon := unix.NsecToTimeval(1e7)
	for _, m := range l.markers {
		if err := unix.SetsockoptTimeval(m.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &soon); err != nil {
			t.Fatal(err)
		}
	}
	const want = `receive on link "a" of host "b"`
	if err := l.Settle(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %s", err, want)
	}
}
