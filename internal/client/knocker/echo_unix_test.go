//go:build unix

package knocker

import "testing"

// TestChecksum: the example of RFC 1071, section 3, and an odd number of bytes.
func TestChecksum(t *testing.T) {
	for _, test := range []struct {
		message []byte
		want    uint16
	}{
		{[]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, ^uint16(0xddf2)},
		{[]byte{0x00, 0x01, 0xf2}, ^uint16(0xf201)},
		{[]byte{0xff, 0xff, 0xff, 0xff, 0x00, 0x01}, ^uint16(0x0001)},
	} {
		if got := checksum(test.message); got != test.want {
			t.Errorf("%x: got %04x, want %04x", test.message, got, test.want)
		}
	}
}
