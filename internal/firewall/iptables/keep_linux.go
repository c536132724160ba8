package iptables

import (
	"slices"

	"postern/internal/firewall"
)

// A keeper is the backend for a process that keeps its rules loaded. It cannot hold
// them: the tables are shared with others.
type keeper struct {
	Backend
	variant string
}

var _ firewall.Keeper = keeper{}

// Keep returns a keeper for the variant that the machine uses now.
func (b Backend) Keep() (firewall.Keeper, error) {
	v, err := b.Version()
	return keeper{b, v.Variant}, err
}

// Hears returns Hints from the nft variant: what iptables-restore does to others'
// rules and to ours looks the same. The legacy variant's kernel gives no notice.
func (k keeper) Hears() firewall.Hearing {
	if k.variant == "nft" {
		return firewall.Hints
	}
	return firewall.Nothing
}

// Concerns reports whether a notice is about a table of ours as a whole, about a chain of
// ours or about one from which ours are called.
func (k keeper) Concerns(n firewall.Notice) bool {
	if n.Set != "" || !slices.Contains(kernelTables, n.Table) {
		return false
	}
	return n.Chain == "" || Ours(n.Chain) || slices.Contains(callers, n.Chain)
}

// kernelTables are the tables of places, as notices name them.
var kernelTables = []string{"ip filter", "ip6 filter", "ip nat", "ip6 nat"}

// callers are the chains that have a jump to ours.
var callers = []string{"INPUT", "PREROUTING"}

func (keeper) Hold() (bool, error) { return false, nil }
func (keeper) LetGo() error        { return nil }
func (keeper) Close() error        { return nil }
