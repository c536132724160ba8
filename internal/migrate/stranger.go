package migrate

import (
	"net/netip"
	"slices"
)

// sender is address, remembered.
func (w *walker) sender(from netip.Prefix) netip.Addr {
	a, known := w.addresses[from]
	if !known {
		a = w.address(from)
		w.addresses[from] = a
	}
	return a
}

// address gives a source: one of the network that is in no smaller one that
// the rules name, or a stranger.
func (w *walker) address(from netip.Prefix) netip.Addr {
	outside := func(a netip.Addr) bool {
		return !slices.ContainsFunc(w.sources, func(p netip.Prefix) bool {
			return p.Contains(a) && (!from.IsValid() || p.Bits() > from.Bits())
		})
	}
	if from.IsValid() {
		a := from.Addr()
		for range len(w.sources) + 2 {
			if outside(a) || !from.Contains(a.Next()) {
				break
			}
			a = a.Next()
		}
		return a
	}
	strangers := []string{"198.18.7.9", "203.0.113.77", "100.65.3.1", "9.1.2.3", "45.67.89.10", "172.217.1.2", "81.2.3.4"}
	if w.set.v6 {
		strangers = []string{"2001:db8:77::9", "2a01:4f8::77", "2600::1234", "2400:cb00::9", "2c0f:f248::9"}
	}
	for _, s := range strangers {
		if a := netip.MustParseAddr(s); outside(a) {
			return a
		}
	}
	return netip.MustParseAddr(strangers[0])
}
