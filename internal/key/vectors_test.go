package key

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/vectors.json again")

// A vector is a token with all that it is made of. Numbers of 64 bits are text, as
// not every reader of JSON has them; bytes are hexadecimal.
type vector struct {
	Site   string `json:"site"`
	Secret string `json:"secret"`
	Device string `json:"device"` // 16 hexadecimal digits
	Door   string `json:"door"`   // a name
	DoorID uint32 `json:"door_id"`
	Time   string `json:"time"`  // nanoseconds since 1970
	Bound  string `json:"bound"` // an address, or empty
	Lane   int    `json:"lane"`
	Close  bool   `json:"close"` // the door, and not open it

	MAC   string `json:"k_mac"`
	Mask  string `json:"k_mask"`
	Inner string `json:"inner"` // HMAC's states, as big-endian words
	Outer string `json:"outer"`
	Token string `json:"token"`
}

// complete computes what follows from the rest.
func (v vector) complete(t *testing.T) vector {
	t.Helper()
	c := Credential{Door: DoorID(v.Door)}
	unhex(t, c.Site[:], v.Site)
	unhex(t, c.Secret[:], v.Secret)
	var err error
	if c.Device, err = ParseDevice(v.Device); err != nil {
		t.Fatal(err)
	}
	var at int64
	if _, err := fmt.Sscan(v.Time, &at); err != nil {
		t.Fatal(err)
	}
	var bound netip.Addr
	if v.Bound != "" {
		bound = netip.MustParseAddr(v.Bound)
	}
	mac, mask := c.Secret.MAC(c.Site), c.Secret.Mask(c.Site)
	inner, outer := mac.Midstates()
	make := c.Token
	if v.Close {
		make = c.Closing
	}
	token := make(time.Unix(0, at), bound, Lane(v.Lane))
	v.DoorID = uint32(c.Door)
	v.MAC = hex.EncodeToString(mac[:])
	var m strings.Builder
	for _, word := range mask {
		for i := range 8 {
			fmt.Fprintf(&m, "%02x", byte(word>>(8*i)))
		}
	}
	v.Mask = m.String()
	v.Inner, v.Outer = words(inner), words(outer)
	v.Token = hex.EncodeToString(token[:])
	return v
}

func words(state [8]uint32) (text string) {
	for _, w := range state {
		text += fmt.Sprintf("%08x", w)
	}
	return text
}

func unhex(t *testing.T, into []byte, text string) {
	t.Helper()
	if n, err := hex.Decode(into, []byte(text)); err != nil || n != len(into) {
		t.Fatalf("%q is not %d bytes: %v", text, len(into), err)
	}
}

const vectorsFile = "testdata/vectors.json"

// TestVectors: what this package computes is what the file says, which
// TestVectorsElsewhere holds to an independent implementation.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 8 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for i, v := range vectors {
		if got := v.complete(t); got != v {
			t.Errorf("vector %d\n got %+v\nwant %+v", i, got, v)
		}
	}
}

func writeVectors(t *testing.T) {
	t.Helper()
	var all []vector
	for i, bound := range []string{"", "192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"} {
		for lane := range int(lanes) {
			site, secret := make([]byte, 16), make([]byte, 32)
			for j := range site {
				site[j] = byte(17*i + 5*lane + j)
			}
			for j := range secret {
				secret[j] = byte(0xff - 31*i - 7*lane - j)
			}
			all = append(all, vector{
				Site: hex.EncodeToString(site), Secret: hex.EncodeToString(secret),
				Device: fmt.Sprintf("%016x", 0x0123456789abcdef+uint64(i)),
				Door:   []string{"ssh", "web-admin"}[i%2], Bound: bound, Lane: lane,
				Time: fmt.Sprint(1796000000_123456789 + int64(i)*1e9 + int64(lane)),
			}.complete(t))
		}
	}
	for _, v := range []vector{all[0], all[3]} {
		v.Close = true
		all = append(all, v.complete(t))
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestVectorsElsewhere: Python with its own SHA-256, HMAC and JSON, and a SipHash
// written from its paper, computes the same tokens; and it notices a wrong one.
func TestVectorsElsewhere(t *testing.T) {
	python := func(file string) ([]byte, error) {
		return exec.Command("python3", "testdata/vectors.py", file).CombinedOutput()
	}
	if out, err := python(vectorsFile); err != nil || !strings.Contains(string(out), "10 vectors") {
		t.Fatalf("%v (scripts/install-test-tools installs what tests need)\n%s", err, out)
	}
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	wrong := t.TempDir() + "/wrong.json"
	if err := os.WriteFile(wrong, []byte(strings.Replace(string(text), `"lane": 1`, `"lane": 0`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := python(wrong); err == nil {
		t.Errorf("a wrong vector passes:\n%s", out)
	}
}
