package hosts

import (
	"strings"
	"testing"

	"postern/internal/key"
)

// keyed returns a host with a key, whose text and link follow.
func keyed(name string) Host {
	h := New(name)
	h.Address, h.Token = "home.example", 40123
	h.Key = &key.Credential{Device: 0xefcdab8967452301, Door: 0x98badcfe}
	for i := range h.Key.Site {
		h.Key.Site[i] = byte(i)
	}
	for i := range h.Key.Secret {
		h.Key.Secret[i] = byte(255 - i)
	}
	return h
}

const (
	keyedText = "AAECAwQFBgcICQoLDA0ODwEjRWeJq83v_ty6mP_-_fz7-vn49_b19PPy8fDv7u3s6-rp6Ofm5eTj4uHg"
	keyedLink = "postern://home.example:22/v2/name=home/key=" + keyedText + "/token=40123/check=9YTCam/"
)

// TestKey: the form of a key is a promise to files and links of other versions.
func TestKey(t *testing.T) {
	h := keyed("home")
	if got, f := credential(keyedText); f != nil || *got != *h.Key {
		t.Errorf("got %+v, %v", got, f)
	}
	for _, text := range []string{
		"", keyedText[1:], keyedText + "A", keyedText + "=", "+" + keyedText[1:], "/" + keyedText[1:], " " + keyedText[1:],
		"\n" + keyedText[1:], "\r" + keyedText[1:], keyedText[:40] + "\r\n" + keyedText[42:], strings.Repeat("é", 40),
	} {
		if k, f := credential(text); f == nil {
			t.Errorf("%q is %+v", text, k)
		} else if len(text) > 4 && strings.Contains(f.Message+f.Hint, text[4:20]) {
			t.Errorf("%q: the error has the key: %v", text, f)
		}
	}
}
