package keyfile

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
	"postern/internal/key"
	"postern/internal/policy"
)

// MaxSize is the size of the largest file that is parsed. Fifty thousand devices fit.
const MaxSize = 8 << 20

// language holds the texts that are specific to keys files.
var language = document.FileKind{
	Name:       "keys file",
	EmptyHint:  "a keys file begins with \"version: 1\"; \"postern user add\" writes one",
	MaxNesting: "four levels",
	Mapping:    "{id: NUMBER, secret: SECRET}",
	MaxSize:    MaxSize,
	Secrets:    true,
	KeyOwners: map[string]string{
		"version": "the top of the file", "site": "the top of the file", "hosts": "the top of the file", "devices": "the top of the file",
		"id": "a device", "secret": "a device",
	},
	UnknownKey: func(string) (meant, hint string) { return "", "" },
}

// written is what to do about a value that nobody can write by hand.
const written = "restore the file from a backup, or remove it and enroll the devices again: \"postern user rotate\""

// Parse parses a keys file. The name is used in diagnostics, which quote no secret.
// The error is a *document.InvalidError.
func Parse(name string, data []byte) (*File, error) {
	f := &File{}
	_, err := document.Parse(name, data, &language, func(d *document.Walker, root *yaml.Node) {
		w := &walker{Walker: d, file: f, ids: map[key.Device]string{}, secrets: map[key.Secret]string{}}
		w.readFile(root)
	})
	if err != nil {
		return nil, err
	}
	f.sort()
	return f, nil
}

// A walker reads the YAML tree into a File.
type walker struct {
	*document.Walker
	file    *File
	ids     map[key.Device]string // of which device
	secrets map[key.Secret]string
}

func (w *walker) readFile(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		w.Fail(n, "a keys file must be a mapping, not "+document.Kind(n), "write \"key: value\" lines, the first of them \"version: 1\"")
		return
	}
	if w.RejectNewer(n) {
		return
	}
	entries := w.Fields("the keys file", n, n, []document.Field{
		{Key: "version", Shape: document.Scalar, Example: "1", Read: func(n *yaml.Node) {
			if n.Value != "1" || n.Style != 0 {
				w.Fail(n, "version must be the number 1", "write \"version: 1\"")
			}
		}},
		{Key: "site", Shape: document.Scalar, Example: "SITE", Default: "no devices", Read: func(n *yaml.Node) {
			w.bytes(n, "site", w.file.Site[:])
		}},
		{Key: "hosts", Shape: document.Mapping, Advice: "doors under it, each with its host, as in ssh: home.example", Default: "no hosts", Read: w.readHosts},
		{Key: "devices", Shape: document.Mapping, Advice: "the devices under it, as in alice/laptop: {id: NUMBER, secret: SECRET}", Default: "no devices", Read: w.readDevices},
	})
	if devices, there := entries["devices"]; there && entries["site"].Key == nil {
		w.Fail(devices.Key, "the file has devices and no site", written)
	}
}

// bytes reads as many bytes as to has.
func (w *walker) bytes(n *yaml.Node, what string, to []byte) {
	b, err := encoding.DecodeString(n.Value)
	if err != nil || len(b) != len(to) || encoding.EncodeToString(b) != n.Value {
		w.Fail(n, fmt.Sprintf("%s is not %d bytes in base64", what, len(to)), written)
		return
	}
	copy(to, b)
	if strings.Trim(string(to), "\x00") == "" {
		w.Fail(n, what+" is nothing but zeros", written)
	}
}

func (w *walker) readHosts(n *yaml.Node) {
	for _, e := range w.Entries(n, "remove one of the two") {
		w.Check(e.Key, policy.CheckName("door", e.Key.Value))
		f := document.Field{Key: document.Short(e.Key.Value), Shape: document.Scalar, Example: "home.example"}
		if w.CheckShape(e, f) {
			w.file.SetHost(e.Key.Value, e.Value.Value)
		}
	}
}

func (w *walker) readDevices(n *yaml.Node) {
	for _, e := range w.Entries(n, "remove one of the two") {
		user, device, found := strings.Cut(e.Key.Value, "/")
		if !found {
			w.Fail(e.Key, document.Quoted(e.Key.Value)+" names no device of a user", "write USER/DEVICE, as in alice/laptop")
		} else if w.Check(e.Key, policy.CheckName("user", user)) {
			w.Check(e.Key, policy.CheckName("device", device))
		}
		f := document.Field{Key: "device " + document.Short(e.Key.Value), Shape: document.Mapping, Advice: "its id and its secret under it, as in {id: NUMBER, secret: SECRET}"}
		if w.CheckShape(e, f) {
			w.readDevice(e)
		}
	}
}

func (w *walker) readDevice(e document.Entry) {
	d := Device{Name: e.Key.Value}
	w.Fields("device "+document.Short(d.Name), e.Key, e.Value, []document.Field{
		{Key: "id", Shape: document.Scalar, Example: "NUMBER", Read: func(n *yaml.Node) {
			id, err := key.ParseDevice(n.Value)
			switch other := w.ids[id]; {
			case err != nil || id == 0:
				w.Fail(n, "id is not 16 hexadecimal digits", written)
			case other != "":
				w.Fail(n, "this is the id of "+document.Short(other), "remove one of the two, and enroll the device again: \"postern user rotate\"")
			}
			d.ID, w.ids[id] = id, d.Name
		}},
		{Key: "secret", Shape: document.Scalar, Example: "SECRET", Read: func(n *yaml.Node) {
			w.bytes(n, "secret", d.Secret[:])
			if other := w.secrets[d.Secret]; other != "" && d.Secret != (key.Secret{}) {
				w.Fail(n, "this is the secret of "+document.Short(other), "remove one of the two, and enroll the device again: \"postern user rotate\"")
			}
			w.secrets[d.Secret] = d.Name
		}},
	})
	w.file.Devices = append(w.file.Devices, d)
}
