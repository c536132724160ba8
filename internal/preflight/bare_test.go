package preflight

import (
	"strings"
	"testing"

	"postern/internal/host"
)

func TestBare(t *testing.T) {
	eth0 := host.Link{Name: "eth0", DefaultRoute: true, Global: true}
	eth1 := host.Link{Name: "eth1", Global: true}
	for _, test := range []struct {
		name, named string
		links       []host.Link
		want        string
	}{
		{"everywhere", "", []host.Link{eth0, eth1}, ""},
		{"what others are for", "eth0", []host.Link{eth0, eth1}, ""},
		{"a default route", "eth1", []host.Link{eth0, eth1}, "eth0"},
		{"a VLAN", "eth0", []host.Link{eth0, {Name: "eth0.5", Parent: "eth0"}}, "eth0.5"},
		{"a VLAN of another", "eth0", []host.Link{eth0, eth1, {Name: "eth1.5", Parent: "eth1"}}, ""},
		{"a VLAN on a VLAN", "eth0", []host.Link{eth0, {Name: "a", Parent: "eth0"}, {Name: "b", Parent: "a"}}, "a b"},
		{"one named, one not", "eth0 a", []host.Link{eth0, {Name: "a", Parent: "eth0"}, {Name: "b", Parent: "eth0"}}, "b"},
		{"a circle", "eth0", []host.Link{eth0, {Name: "a", Parent: "b"}, {Name: "b", Parent: "a"}}, ""},
		{"renamed", "eth9", []host.Link{eth1, {Name: "idle"}}, "eth1"},
		{"a port, whose bridge is named", "br0", []host.Link{{Name: "eth0", Master: "br0", DefaultRoute: true}, {Name: "br0"}}, ""},
	} {
		var exist, got []string
		for _, l := range test.links {
			exist = append(exist, l.Name)
		}
		for _, b := range bare(strings.Fields(test.named), exist, test.links) {
			got = append(got, b.name)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
