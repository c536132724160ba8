// Package backends is the registry of backends, and chooses among them.
//
// A new backend is a package beside nftables and iptables, and one line of load.go.
// All code that needs a backend, or does something for each, takes it from here.
package backends

import (
	"slices"

	"postern/internal/firewall"
)

// All returns every backend, the default one first. Where Load is false they
// compile policies and render rules, and do nothing else.
func All() []firewall.Backend { return slices.Clone(all) }

// Default returns the backend that is used unless another is asked for.
func Default() firewall.Backend { return all[0] }

// Names returns the names of backends.
func Names(all []firewall.Backend) []string {
	names := make([]string, len(all))
	for i, b := range all {
		names[i] = b.Name()
	}
	return names
}

// Formats returns the text forms of all backends' rules, each with its backend.
func Formats(all []firewall.Backend) []Format {
	var formats []Format
	for _, b := range all {
		if r, ok := b.(firewall.Renderer); ok {
			for _, f := range r.Formats() {
				formats = append(formats, Format{f, b})
			}
		}
	}
	return formats
}

// A Format is a text form of a backend's rules.
type Format struct {
	firewall.Format
	Backend firewall.Backend
}

// Own reports whether a chain that nft lists is one of any backend's. The
// table's name begins with its family.
func Own(table, chain string) bool {
	return slices.ContainsFunc(all, func(b firewall.Backend) bool {
		owner, ok := b.(firewall.ChainOwner)
		return ok && owner.Owns(table, chain)
	})
}
