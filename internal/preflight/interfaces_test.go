package preflight

import (
	"fmt"
	"testing"
)

func TestWrongInterface(t *testing.T) {
	masters := map[string]string{"eth0": "br0", "eth1": "br0", "eth2": "bond0", "eth3": ""}
	for _, test := range []struct {
		interfaces []string
		want       string
	}{
		{[]string{"eth9"}, ""},
		{[]string{"br0"}, ""},
		{[]string{"eth0"}, "eth0 of br0: [br0]"},
		{[]string{"eth0", "eth1", "eth9"}, "eth0 of br0: [br0 eth9]"},
		{[]string{"eth0", "br0"}, ""},
		{[]string{"eth0", "br0", "eth2"}, "eth2 of bond0: [br0 bond0]"},
		{[]string{"eth3"}, "eth3 of : [eth3]"},
	} {
		got := ""
		if e := wrongInterface(test.interfaces, masters); e != nil {
			got = fmt.Sprintf("%s of %s: %s", e.name, e.master, e.instead)
		}
		if got != test.want {
			t.Errorf("%v: got %q, want %q", test.interfaces, got, test.want)
		}
	}
}
