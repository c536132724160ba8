package client

import (
	"strings"
	"testing"

	"postern/internal/hosts"
	"postern/internal/policy"
)

// TestLocal reads what ssh's -L takes. (What is wrong is in bad-arguments.txt.)
func TestLocal(t *testing.T) {
	h := hosts.New("web")
	h.Service = policy.Port{Protocol: policy.TCP, Number: 80}
	to := func(host string, port uint16) Destination {
		return Destination{host, policy.Port{Protocol: policy.TCP, Number: port}}
	}
	for text, want := range map[string]Local{
		"8080":                           {Loopback, 8080, to("", 80)},
		"0":                              {Loopback, 0, to("", 80)},
		"localhost:8080":                 {Loopback, 8080, to("", 80)},
		"192.0.2.7:8080":                 {"192.0.2.7", 8080, to("", 80)},
		"[2001:db8::7]:8080":             {"2001:db8::7", 8080, to("", 80)},
		"*:8080":                         {Anywhere, 8080, to("", 80)},
		":8080":                          {Anywhere, 8080, to("", 80)},
		"8080::443":                      {Loopback, 8080, to("", 443)},
		"8080:inner.example:443":         {Loopback, 8080, to("inner.example", 443)},
		"8080:192.0.2.9:443":             {Loopback, 8080, to("192.0.2.9", 443)},
		"8080:[2001:db8::9]:443":         {Loopback, 8080, to("2001:db8::9", 443)},
		"127.0.0.1:8080:inner:443":       {"127.0.0.1", 8080, to("inner", 443)},
		"[::1]:8080:[2001:db8::9]:443":   {"::1", 8080, to("2001:db8::9", 443)},
		"*:8080::443":                    {Anywhere, 8080, to("", 443)},
		"[fe80::1%eth0]:8080:[::2]:443":  {"fe80::1%eth0", 8080, to("::2", 443)},
		"localhost:8080:inner.example:1": {Loopback, 8080, to("inner.example", 1)},
	} {
		if got, err := parseLocal(text, &h); err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for b, want := range map[Bind]bool{
		Loopback: false, "127.0.0.1": false, "::1": false, Anywhere: true, "0.0.0.0": true, "192.0.2.7": true, "::": true,
	} {
		if b.Exposed() != want {
			t.Errorf("%q is exposed: %t", b, b.Exposed())
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

// TestSuggestLocal: what is written in another way than ssh's is understood well enough
// to say how it is written here.
func TestSuggestLocal(t *testing.T) {
	h := hosts.New("web")
	h.Service = policy.Port{Protocol: policy.TCP, Number: 443}
	for text, want := range map[string]string{
		"8082:8443":                 "8082::8443",
		"127.0.0.1:8082:8443":       "127.0.0.1:8082::8443",
		"localhost:8082:8443":       "localhost:8082::8443",
		"*:8082:8443":               "*:8082::8443",
		"[::1]:8082:8443":           "[::1]:8082::8443",
		"8082:inner":                "8082:inner:443",
		"8082:[2001:db8::9]":        "8082:[2001:db8::9]:443",
		"inner:8082":                "8082:inner:8082",
		"8082:8443:inner":           "8082:inner:8443",
		"192.0.2.5:8082:8443:inner": "192.0.2.5:8082:inner:8443",
		"8082:70000":                "",
		"0:8443":                    "",
		"70000":                     "",
		"http":                      "",
		"8082:localhost":            "",
		"8082:inner:https":          "",
		"1:2:3:4:5":                 "",
		"":                          "",
		"8082:":                     "",
	} {
		_, err := parseLocal(text, &h)
		if err == nil {
			t.Errorf("%q is understood", text)
			continue
		}
		_, got, _ := strings.Cut(err.Error(), "did you mean ")
		if got = strings.Trim(got, "\"?"); got != want {
			t.Errorf("%q: suggests %q, want %q", text, got, want)
		}
		if want != "" {
			if _, err := parseLocal(want, &h); err != nil {
				t.Errorf("%q is suggested, and %v", want, err)
			}
		}
	}
}

// TestHintsBySystem: no system is told of another one's packages and settings.
func TestHintsBySystem(t *testing.T) {
	for _, system := range []string{"windows", "darwin", "freebsd"} {
		if hint := installSSH(system); strings.Contains(hint, "openssh-client") {
			t.Errorf("%s: %s", system, hint)
		}
	}
	if !strings.Contains(installSSH("linux"), "openssh-client") {
		t.Error("Linux is told of no package")
	}
}
