package hosts

import (
	"fmt"

	"postern/internal/document"
	"postern/internal/key"
)

// keyLength is the number of characters of every key.
var keyLength = len(key.Credential{}.Encode())

// InKeyring is what is written in place of a key that is in the system's key store.
const InKeyring = "keyring"

// setKey parses a key, or InKeyring.
func (h *Host) setKey(text string) *document.Fault {
	if text == InKeyring {
		h.Key, h.Stored = &key.Credential{}, true
		return nil
	}
	f := set(&h.Key, text, credential)
	if f == nil {
		h.Stored = false
	}
	return f
}

// keyText returns what is written in the file for the host's key.
func (h *Host) keyText() string {
	if h.Stored {
		return InKeyring
	}
	return h.Key.Encode()
}

// credential parses a key. What is wrong is said without the text, which is a
// secret but for its fault.
func credential(text string) (*key.Credential, *document.Fault) {
	const hint = "copy it whole, or ask for a new link"
	if len(text) != keyLength {
		return nil, document.NewFault(fmt.Sprintf("key has %d characters, and every key has %d", len(text), keyLength), hint)
	}
	c, err := key.DecodeCredential(text)
	if err != nil {
		return nil, document.NewFault("key has a character that keys cannot have", hint)
	}
	return &c, nil
}

// token parses the port that a key's tokens go to.
func token(text string) (uint16, *document.Fault) {
	p, f := service("udp/" + text)
	if f != nil {
		return 0, document.NewFault("token cannot be "+document.Quoted(text), "write one port as a number, as in 40123")
	}
	return p.Number, nil
}
