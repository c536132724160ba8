package bpf

import "testing"

// TestDelivers: what comes by a port of somebody else's switch need not come to the rules.
func TestDelivers(t *testing.T) {
	for master, want := range map[string]bool{"bridge": true, "bond": true, "team": true, "vrf": true, "openvswitch": false, "": false} {
		if got := delivers(master); got != want {
			t.Errorf("%q: %v, want %v", master, got, want)
		}
	}
}
