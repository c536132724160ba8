package hosts

import (
	"testing"

	"postern/internal/document/documenttest"
)

var withKey = map[string]string{"address": "a.example", "key": keyedText, "token": "1"}

// reference is docs/hosts.md, which describes every key.
var reference = documenttest.Reference{
	Page: "../../docs/hosts.md",
	Parse: func(text []byte) error {
		_, err := Parse("hosts.yaml", text)
		return err
	},
	Owners: language.KeyOwners,
	ByName: []string{"hosts"},
	Levels: []documenttest.Level{
		{Heading: "Top of the file", Wrap: "%s", Keys: map[string]string{"version": "1"}},
		{Heading: "A host", Wrap: "{version: 1, hosts: {h: %s}}", Keys: map[string]string{"address": "a.example", "knock": "[7, 9, 8]"},
			Beside: map[string]map[string]string{"key": withKey, "token": withKey}},
	},
}

func TestReferencePage(t *testing.T) { reference.Check(t) }
