// Package systemd has the units by which systemd runs Postern, and installs them.
//
// The units are the files in the folder units, word for word as a package puts
// them into /usr/lib/systemd/system. "postern install" writes the same text to
// /etc/systemd/system, with the path of the program that it is run as.
//
// Nothing here loads a rule or removes one, with one exception that is none: a
// policy that is loaded already is loaded again by the unit, as it would be at
// the next boot.
package systemd

import (
	"embed"
	"path"
	"strings"
)

//go:embed units
var units embed.FS

// header begins every file of ours. A file with another beginning is neither
// overwritten nor removed.
const header = "# Part of Postern."

// program is the path of postern in the texts.
const program = "/usr/bin/postern"

// Units are the names of the units of our own, in the order in which they start.
var Units = []string{"postern.service", "postern-watchdog.service"}

// others are the units that may flush rules as they start or reload. A drop-in for
// one that is not installed does nothing.
var others = []string{
	"nftables.service", "ufw.service", "netfilter-persistent.service", "firewalld.service",
	"iptables.service", "ip6tables.service",
}

// A File is a unit or a drop-in.
type File struct {
	Path string `json:"path"` // below the folder of units
	Text string `json:"text"`
}

// Files returns the units and drop-ins for a program at a path.
func Files(at string) []File {
	text := func(name string) string {
		data, err := units.ReadFile("units/" + name)
		if err != nil {
			panic(err) // it is part of this program
		}
		return strings.ReplaceAll(string(data), program+" ", at+" ")
	}
	var all []File
	for _, name := range Units {
		all = append(all, File{name, text(name)})
	}
	for _, name := range others {
		from := "drop-in.conf"
		if name == "firewalld.service" {
			from = "firewalld.conf"
		}
		all = append(all, File{path.Join(name+".d", "postern.conf"), text(from)})
	}
	return all
}
