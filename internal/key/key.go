package key

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
)

// A Site is the key that all devices of a server share.
type Site [16]byte

// A Secret is what only one device and its server know.
type Secret [32]byte

// A Device is the number of a device. It is unique on its server, and no secret.
type Device uint64

// A Door is the number of a door, as DoorID returns it.
type Door uint32

// NewSite returns a random site.
func NewSite() (s Site) {
	rand.Read(s[:]) // it never fails
	return s
}

// NewSecret returns a random secret.
func NewSecret() (s Secret) {
	rand.Read(s[:])
	return s
}

// NewDevice returns a random number of a device, which is not zero.
func NewDevice() Device {
	for {
		var b [8]byte
		rand.Read(b[:])
		if d := Device(binary.LittleEndian.Uint64(b[:])); d != 0 {
			return d
		}
	}
}

// DoorID returns the number of the door of that name: the first four bytes of the
// name's SHA-256. Two names may have the same; one policy cannot hold both.
func DoorID(name string) Door {
	sum := sha256.Sum256([]byte(name))
	return Door(binary.LittleEndian.Uint32(sum[:]))
}

// String returns text in place of the site, so that no message prints it.
func (Site) String() string { return "(site)" }

// GoString returns the same as String.
func (s Site) GoString() string { return s.String() }

// String returns text in place of the secret, so that no message prints it.
func (Secret) String() string { return "(secret)" }

// GoString returns the same as String.
func (s Secret) GoString() string { return s.String() }

// String returns 16 hexadecimal digits, which ParseDevice reads.
func (d Device) String() string { return fmt.Sprintf("%016x", uint64(d)) }

// ParseDevice reads what Device.String returns, and nothing else.
func ParseDevice(text string) (Device, error) {
	n, err := strconv.ParseUint(text, 16, 64)
	if d := Device(n); err == nil && d.String() == text {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not 16 hexadecimal digits", text)
}

// A Credential is what a device holds to open one door of a server.
type Credential struct {
	Site   Site
	Device Device
	Door   Door
	Secret Secret
}

const credentialSize = 16 + 8 + 4 + 32

// Encode returns the credential as text of 80 characters, base64 as URLs have it.
// Anyone who reads the text can open the door.
func (c Credential) Encode() string {
	b := make([]byte, 0, credentialSize)
	b = append(b, c.Site[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Device))
	b = binary.LittleEndian.AppendUint32(b, uint32(c.Door))
	b = append(b, c.Secret[:]...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// DecodeCredential reads what Credential.Encode returns, and nothing else. Its
// errors do not quote the text.
func DecodeCredential(text string) (c Credential, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && len(b) == credentialSize {
		copy(c.Site[:], b)
		c.Device = Device(binary.LittleEndian.Uint64(b[16:]))
		c.Door = Door(binary.LittleEndian.Uint32(b[24:]))
		copy(c.Secret[:], b[28:])
		if c.Encode() == text { // the decoder skips line breaks
			return c, nil
		}
	}
	return Credential{}, fmt.Errorf("a key has %d characters of A-Z, a-z, 0-9, - and _, and this is none",
		base64.RawURLEncoding.EncodedLen(credentialSize))
}

// String returns which device and door the credential is for, without its secrets.
func (c Credential) String() string {
	return fmt.Sprintf("device %v door %08x", c.Device, uint32(c.Door))
}

// GoString returns the same as String.
func (c Credential) GoString() string { return c.String() }
