package policy

import (
	"strings"
	"testing"

	"postern/internal/document/documenttest"
)

const soundDoors = "doors: {d: {service: tcp/22, knock: {sequence: [7, 9, 8]}}}"

// reference is docs/policy.md, which describes every key.
var reference = documenttest.Reference{
	Page: "../../docs/policy.md",
	Parse: func(text []byte) error {
		_, err := Parse("policy.yaml", text)
		return err
	},
	Owners: language.KeyOwners,
	ByName: []string{"doors", "users"},
	Levels: []documenttest.Level{
		{Heading: "Top of the file", Wrap: "%s", Keys: map[string]string{"version": "1", "posture": "closed", "doors": strings.TrimPrefix(soundDoors, "doors: ")}},
		{Heading: "An allow entry", Wrap: "{version: 1, posture: closed, allow: [%s], " + soundDoors + "}", Optional: true},
		{Heading: "keys", Wrap: "{version: 1, posture: closed, keys: %s, users: {u: {devices: [a]}}, doors: {d: {service: tcp/22, knock: {key: [u]}}}}", Keys: map[string]string{"port": "udp/9"}},
		{Heading: "A user", Wrap: "{version: 1, posture: closed, keys: {port: udp/9}, users: {u: %s}, doors: {d: {service: tcp/22, knock: {key: [u]}}}}", Keys: map[string]string{"devices": "[a]"}},
		{Heading: "A door", Wrap: "{version: 1, posture: closed, doors: {d: %s}}", Keys: map[string]string{"service": "tcp/22", "knock": "{sequence: [7, 9, 8]}"},
			Beside: map[string]map[string]string{"on_close": {"service": "tcp/22", "knock": "{sequence: [7, 9, 8], close: [8, 9, 7]}"}}},
		{Heading: "knock", Wrap: "{version: 1, posture: closed, keys: {port: udp/999}, users: {alice: {devices: [a]}}, doors: {d: {service: tcp/22, knock: %s}, e: {service: tcp/23, knock: {key: [alice]}}}}", Keys: map[string]string{"sequence": "[7, 9, 8]"}},
		{Heading: "admitted", Wrap: "{version: 1, posture: closed, admitted: %s, " + soundDoors + "}", Keys: map[string]string{"mark": "0x1000"}},
		{Heading: "source", Wrap: "{version: 1, posture: closed, source: %s, " + soundDoors + "}"},
		{Heading: "log", Wrap: "{version: 1, posture: closed, log: %s, " + soundDoors + "}"},
	},
}

func TestReferencePage(t *testing.T) { reference.Check(t) }
