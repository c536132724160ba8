package cli

import (
	"testing"

	"postern/internal/hosts"
	"postern/internal/policy"
)

// TestLocal reads what ssh's -L takes. (What is wrong is in bad-arguments.txt.)
func TestLocal(t *testing.T) {
	h := hosts.New("web")
	h.Service = policy.Port{Protocol: policy.TCP, Number: 80}
	to := func(host string, port uint16) destination {
		return destination{host, policy.Port{Protocol: policy.TCP, Number: port}}
	}
	for text, want := range map[string]local{
		"8080":                           {thisMachine, 8080, to("", 80)},
		"0":                              {thisMachine, 0, to("", 80)},
		"localhost:8080":                 {thisMachine, 8080, to("", 80)},
		"192.0.2.7:8080":                 {"192.0.2.7", 8080, to("", 80)},
		"[2001:db8::7]:8080":             {"2001:db8::7", 8080, to("", 80)},
		"*:8080":                         {everywhere, 8080, to("", 80)},
		":8080":                          {everywhere, 8080, to("", 80)},
		"8080::443":                      {thisMachine, 8080, to("", 443)},
		"8080:inner.example:443":         {thisMachine, 8080, to("inner.example", 443)},
		"8080:192.0.2.9:443":             {thisMachine, 8080, to("192.0.2.9", 443)},
		"8080:[2001:db8::9]:443":         {thisMachine, 8080, to("2001:db8::9", 443)},
		"127.0.0.1:8080:inner:443":       {"127.0.0.1", 8080, to("inner", 443)},
		"[::1]:8080:[2001:db8::9]:443":   {"::1", 8080, to("2001:db8::9", 443)},
		"*:8080::443":                    {everywhere, 8080, to("", 443)},
		"[fe80::1%eth0]:8080:[::2]:443":  {"fe80::1%eth0", 8080, to("::2", 443)},
		"localhost:8080:inner.example:1": {thisMachine, 8080, to("inner.example", 1)},
	} {
		if got, err := parseLocal(text, &h); err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for b, want := range map[bind]bool{
		thisMachine: false, "127.0.0.1": false, "::1": false, everywhere: true, "0.0.0.0": true, "192.0.2.7": true, "::": true,
	} {
		if b.exposed() != want {
			t.Errorf("%q is exposed: %t", b, b.exposed())
		}
	}
}

// TestMeets tells which LOCALs are to listen at one place.
func TestMeets(t *testing.T) {
	h := hosts.New("web")
	for _, test := range []struct {
		one, other string
		want       bool
	}{
		{"8080", "8080", true},
		{"8080", "8080::443", true},
		{"8080", "8081", false},
		{"0", "0", false},
		{"8080", "localhost:8080", true},
		{"8080", "127.0.0.1:8080", true},
		{"[::1]:8080", "8080", true},
		{"[::1]:8080", "[0:0::1]:8080", true},
		{"[::1]:8080", "127.0.0.1:8080", false},
		{"8080", "192.0.2.5:8080", false},
		{"*:8080", ":8080", true},
	} {
		one, err := parseLocal(test.one, &h)
		if err != nil {
			t.Fatal(err)
		}
		other, err := parseLocal(test.other, &h)
		if err != nil {
			t.Fatal(err)
		}
		if got := one.meets(&other); got != test.want {
			t.Errorf("%s and %s: %t", test.one, test.other, got)
		}
	}
}
