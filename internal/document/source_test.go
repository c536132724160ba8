package document

import "testing"

func TestTokenLength(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"closed":                    "closed",
		"closed   # why":            "closed",
		"tcp/22, udp/53]":           "tcp/22",
		"22]}":                      "22",
		"service: tcp/22":           "service",
		"ssh:":                      "ssh",
		"2001:db8::/32, x":          "2001:db8::/32",
		"192.0.2.1:443":             "192.0.2.1:443",
		`"a, b]" # c`:               `"a, b]"`,
		`"a\"b" c`:                  `"a\"b"`,
		"'it''s' c":                 "'it''s'",
		`"open`:                     `"open`,
		"[1, [2, 3], 4], 5":         "[1, [2, 3], 4]",
		`{a: "}", b: '}'} x`:        `{a: "}", b: '}'}`,
		"[it's, 2] 3":               "[it's, 2]",
		"[1, 2   ":                  "[1, 2",
		"two words # and a comment": "two words",
	} {
		if got := text[:tokenLength(text)]; got != want {
			t.Errorf("the token of %q is %q, want %q", text, got, want)
		}
	}
}
