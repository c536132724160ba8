// Package keyfile reads and writes the file with the keys of a host's users.
//
// The policy says who there is, and which door is whose; this file has their
// secrets, and where the links that were made for them lead. It lies beside the policy, only its owner can read
// it, and Postern alone writes it. A device that the policy names and the file
// does not cannot open anything yet; a key of a device that the policy does not
// name opens nothing.
package keyfile

import (
	"encoding/base64"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"postern/internal/key"
)

// Path returns where the keys are for a policy file: keys.yaml in the same folder. For
// "-", a policy from standard input, that is the usual folder of a policy.
func Path(policyFile string) string {
	folder := filepath.Dir(policyFile)
	if policyFile == "-" {
		folder = "/etc/postern"
	}
	return filepath.Join(folder, "keys.yaml")
}

// A File is a keys file. The zero value is one that does not exist.
type File struct {
	Path string
	Site key.Site // the zero value if there is no device yet
	// Hosts has, by the name of a door, the name or the address under which clients
	// reach it, if somebody has said so.
	Hosts   map[string]string
	Devices []Device // in the order of their names
	Missing bool     // Read has found no file
	Exposed bool     // others than root and the caller can read it: by its mode, or as it is theirs
}

// A Device is a device that has a key.
type Device struct {
	Name   string // user and device, as in a policy: "alice/laptop"
	ID     key.Device
	Secret key.Secret
}

// User returns the user whose device it is.
func (d *Device) User() string {
	user, _, _ := strings.Cut(d.Name, "/")
	return user
}

// sort brings the devices into order.
func (f *File) sort() {
	slices.SortFunc(f.Devices, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
}

// at returns where a device is in the file, or would be.
func (f *File) at(name string) (int, bool) {
	return slices.BinarySearchFunc(f.Devices, name, func(d Device, name string) int { return strings.Compare(d.Name, name) })
}

// SetHost says under which name or address clients reach a door.
func (f *File) SetHost(door, host string) {
	if f.Hosts == nil {
		f.Hosts = map[string]string{}
	}
	f.Hosts[door] = host
}

// Find returns the device of that name, or nil.
func (f *File) Find(name string) *Device {
	if i, there := f.at(name); there {
		return &f.Devices[i]
	}
	return nil
}

// Credential returns what a device opens a door with.
func (f *File) Credential(d *Device, door string) key.Credential {
	return key.Credential{Site: f.Site, Device: d.ID, Door: key.DoorID(door), Secret: d.Secret}
}

// Enroll gives a device a new key, and drops the one that it had. The name must be of a
// user and a device that a policy can have.
func (f *File) Enroll(name string) *Device {
	if f.Site == (key.Site{}) {
		f.Site = key.NewSite()
	}
	d := Device{Name: name, ID: key.NewDevice(), Secret: key.NewSecret()}
	for slices.ContainsFunc(f.Devices, func(o Device) bool { return o.ID == d.ID }) {
		d.ID = key.NewDevice()
	}
	i, there := f.at(name)
	if !there {
		f.Devices = slices.Insert(f.Devices, i, d)
	}
	f.Devices[i] = d
	return &f.Devices[i]
}

// Drop removes the key of a device, and reports whether it had one.
func (f *File) Drop(name string) bool {
	i, there := f.at(name)
	if there {
		f.Devices = slices.Delete(f.Devices, i, i+1)
	}
	return there
}

// preface is the beginning of the file.
const preface = `# The keys of the users of policy.yaml: anyone who has one can open that user's doors.
# "postern user" writes this file, and keeps no comment in it.
version: 1
`

// Format returns the text of the file.
func (f *File) Format() []byte {
	b := []byte(preface)
	if f.Site != (key.Site{}) {
		b = fmt.Appendf(b, "site: %s\n", encoding.EncodeToString(f.Site[:]))
	}
	if len(f.Hosts) > 0 {
		b = append(b, "hosts:\n"...)
	}
	for _, door := range slices.Sorted(maps.Keys(f.Hosts)) {
		b = fmt.Appendf(b, "  %s: %q\n", door, f.Hosts[door])
	}
	if len(f.Devices) > 0 {
		b = append(b, "devices:\n"...)
	}
	for i := range f.Devices {
		d := &f.Devices[i]
		b = fmt.Appendf(b, "  %s: {id: %q, secret: %s}\n", d.Name, d.ID, encoding.EncodeToString(d.Secret[:]))
	}
	return b
}

// encoding has no padding, and refuses what it would not have written.
var encoding = base64.RawStdEncoding.Strict()
