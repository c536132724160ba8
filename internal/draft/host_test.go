package draft

import (
	"slices"
	"strings"
	"testing"

	"postern/internal/policy"
)

func TestSSH(t *testing.T) {
	for _, test := range []struct {
		name      string
		want      []policy.Port
		loggedIn  []policy.Port
		listening []Listener
	}{
		{name: "nothing"},
		{name: "sshd", listening: []Listener{{tcp(80), "nginx"}, {tcp(2222), "sshd"}}, want: []policy.Port{tcp(2222)}},
		{name: "two ports", listening: []Listener{{tcp(22), "sshd"}, {tcp(2222), "sshd"}}, want: []policy.Port{tcp(22), tcp(2222)}},
		{name: "by systemd", listening: []Listener{{tcp(22), "systemd"}, {tcp(80), "systemd"}}, want: []policy.Port{tcp(22)}},
		{name: "not to be seen", listening: []Listener{{tcp(22), ""}}, want: []policy.Port{tcp(22)}},
		{name: "dropbear", listening: []Listener{{tcp(22), "dropbear"}}, want: []policy.Port{tcp(22)}},
		{name: "something else on 22", listening: []Listener{{tcp(22), "honeypot"}, {tcp(2200), "sshd"}}, want: []policy.Port{tcp(2200)}},
		{name: "redirected", loggedIn: []policy.Port{tcp(22), tcp(2222)}, listening: []Listener{{tcp(2222), ""}},
			want: []policy.Port{tcp(22), tcp(2222)}},
		{name: "a user's own UDP port", listening: []Listener{{udp(22), "sshd"}}},
	} {
		h := Host{Listening: test.listening, loggedInAt: test.loggedIn}
		if got := h.SSH(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if len(test.want) > 0 && h.Door(test.want) != "ssh" {
			t.Errorf("%s: the door is %q", test.name, h.Door(test.want))
		}
	}
	h := Host{Listening: []Listener{{tcp(2222), "sshd"}}}
	if h.Door([]policy.Port{udp(51820)}) != "service" || h.Door([]policy.Port{tcp(22)}) != "ssh" {
		t.Error("the name of a door")
	}
}

func TestAvoid(t *testing.T) {
	h := Host{Listening: []Listener{{tcp(8000), ""}, {udp(8001), ""}}, first: 32768, last: 60999,
		wellKnown: readServices(strings.NewReader("# comment\nhttp-alt\t8080/tcp\twebcache # WWW\nopenvpn 1194/udp\nodd\nmore odd/odd\n"))}
	for _, p := range []policy.Port{tcp(8000), tcp(8001), udp(8000), tcp(32768), tcp(40000), tcp(60999), tcp(8080), tcp(1194)} {
		if !h.Avoid(p) {
			t.Errorf("%v is not avoided", p)
		}
	}
	for _, p := range []policy.Port{tcp(8002), tcp(32767), tcp(61000), tcp(1195)} {
		if h.Avoid(p) {
			t.Errorf("%v is avoided", p)
		}
	}
	d := Draft{Services: []policy.Port{tcp(9000)}, Allow: []Listener{{tcp(9001), ""}}}
	if avoid := d.Avoid(&h); !avoid(tcp(9000)) || !avoid(tcp(9001)) || !avoid(tcp(8000)) || avoid(tcp(9002)) {
		t.Error("what the policy names is not avoided")
	}
}

func TestOthers(t *testing.T) {
	h := Host{Listening: []Listener{{tcp(22), "sshd"}, {tcp(80), ""}, {udp(68), "dhclient"}, {udp(546), ""}}}
	if got := h.Others([]policy.Port{tcp(22)}); !slices.Equal(got, []Listener{{tcp(80), ""}}) {
		t.Errorf("%v", got)
	}
	if h.At(tcp(22)).Program != "sshd" || h.At(tcp(23)) != (Listener{Port: tcp(23)}) {
		t.Error("At")
	}
}
