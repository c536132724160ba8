package cli

import (
	"strings"
	"testing"
)

// TestEarlyText: status says where nothing is dropped early, and where datagrams are not.
func TestEarlyText(t *testing.T) {
	at := []string{"eth0"}
	for _, c := range []struct {
		early stateEarly
		begin string
		whole bool
	}{
		{stateEarly{Interfaces: at, UDP: true, Packets: 42}, "42", true},
		{stateEarly{Interfaces: at, Packets: 42}, "42, SYNs alone", false},
		{stateEarly{Packets: 42}, "none", false},
	} {
		got := c.early.text()
		if !strings.HasPrefix(got, c.begin) || c.whole != (got == c.begin) {
			t.Errorf("%+v: %q", c.early, got)
		}
	}
}
