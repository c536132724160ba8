package hosts

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"postern/internal/document"
	"postern/internal/key"
)

// keyLength is the number of characters of every key.
var keyLength = len(key.Credential{}.Encode())

// inKeyring is what is written in place of a key that is in the system's key store. The
// name of its entry there follows, after a slash, if it is not the host's name.
const inKeyring = "keyring"

// setKey parses a key, or inKeyring.
func (h *Host) setKey(text string) *document.Fault {
	if entry, named := strings.CutPrefix(text, inKeyring+"/"); text == inKeyring || named {
		if f := checkEntry(entry); named && f != nil {
			return f
		}
		h.Key, h.Stored, h.Entry = &key.Credential{}, true, ""
		if named {
			h.Entry = entry
		}
		return nil
	}
	f := set(&h.Key, text, credential)
	if f == nil {
		h.Stored, h.Entry = false, ""
	}
	return f
}

func checkEntry(text string) *document.Fault {
	if CheckName(text) != nil {
		return document.NewFault("key has a name after \""+inKeyring+"/\" that no entry of the key store has", "ask for a new link, and add it with --keyring")
	}
	return nil
}

// NewEntry draws the name of an entry of the key store. Every hosts file of the user shares
// that store, so a host's name alone could be that of another file's host.
func (h *Host) NewEntry() string {
	number := make([]byte, 4)
	rand.Read(number) // it never fails
	suffix := "-" + hex.EncodeToString(number)
	return h.Name[:min(len(h.Name), maxName-len(suffix))] + suffix
}

// StoreEntry returns the entry of the key store that has the host's key.
func (h *Host) StoreEntry() string { return cmp.Or(h.Entry, h.Name) }

// Shares reports whether another host of the file has the same entry of the key store: one
// that was copied.
func (f *File) Shares(h *Host) bool {
	return h.Stored && slices.ContainsFunc(f.Hosts, func(o Host) bool {
		return o.Stored && o.Name != h.Name && o.StoreEntry() == h.StoreEntry()
	})
}

// keyText returns what is written in the file for the host's key.
func (h *Host) keyText() string {
	switch {
	case h.Stored && h.Entry != "":
		return inKeyring + "/" + h.Entry
	case h.Stored:
		return inKeyring
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
