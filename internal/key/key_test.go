package key

import (
	"fmt"
	"strings"
	"testing"
)

// TestSipHash: the vectors of the reference implementation, key and messages
// 00 01 02 ...
func TestSipHash(t *testing.T) {
	var k [16]byte
	for i := range k {
		k[i] = byte(i)
	}
	var message []byte
	for i, want := range map[int]uint64{
		0:  0x726fdb47dd0e0e31,
		1:  0x74f839c593dc67fd,
		15: 0xa129ca6149be45e5, // the example of the paper
	} {
		message = message[:0]
		for j := range i {
			message = append(message, byte(j))
		}
		if got := sipHash(sipKey(k), message); got != want {
			t.Errorf("%d bytes: %x, want %x", i, got, want)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := Credential{Site: NewSite(), Device: NewDevice(), Door: DoorID("ssh"), Secret: NewSecret()}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{c, &c, c.Site, c.Secret, struct{ C Credential }{c}} {
			text := fmt.Sprintf(format, value)
			for _, secret := range []string{fmt.Sprint([16]byte(c.Site))[1:20], fmt.Sprint([32]byte(c.Secret))[1:20]} {
				if strings.Contains(text, secret) {
					t.Errorf("%s of %T prints a secret", format, value)
				}
			}
		}
	}
}

func FuzzDecodeCredential(f *testing.F) {
	f.Add(Credential{Site: NewSite(), Device: NewDevice(), Door: DoorID("ssh"), Secret: NewSecret()}.Encode())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := DecodeCredential(text); err == nil && c.Encode() != text {
			t.Errorf("%q is %q again", text, c.Encode())
		}
	})
}

func FuzzParseDevice(f *testing.F) {
	f.Add("0123456789abcdef")
	f.Add("0123456789ABCDEF")
	f.Add("+12345")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDevice(text); err == nil && d.String() != text {
			t.Errorf("%q is %q again", text, d)
		}
	})
}

func TestCredentialRoundTrip(t *testing.T) {
	c := Credential{Site: NewSite(), Device: NewDevice(), Door: DoorID("ssh"), Secret: NewSecret()}
	text := c.Encode()
	if got, err := DecodeCredential(text); err != nil || got != c || len(text) != 80 {
		t.Errorf("%q: %v %v", text, got, err)
	}
	for _, bad := range []string{"", text[:79], text + "A", text[:40] + "\n" + text[40:], text + "=", "+" + text[1:]} {
		if _, err := DecodeCredential(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
