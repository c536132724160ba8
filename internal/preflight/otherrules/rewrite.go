//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"cmp"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Rewrites returns the chains that give arriving packets another destination by themselves,
// as "ip daddr set" does, and iptables' RAWDNAT: connection tracking does not know the
// packet as it arrives.
func (r *Rules) Rewrites() (all []Rewrite) {
	for k, c := range r.chains {
		if r.meetsArriving(k, c) && slices.ContainsFunc(c.rules, rewrites) {
			all = append(all, Rewrite{familyName(c.Table.Family) + " " + c.Table.Name, c.Name})
		}
	}
	slices.SortFunc(all, func(a, b Rewrite) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Chain, b.Chain)) })
	return all
}

// meetsArriving reports whether packets that arrive may come to a chain: by its hook, or,
// of one that others jump to, by one in its table.
func (r *Rules) meetsArriving(k chainKey, c *chain) bool {
	arrive := func(c *chain) bool {
		return c.Hooknum != nil && (*c.Hooknum == *nft.ChainHookPrerouting || c.Table.Family == nft.TableFamilyNetdev)
	}
	return arrive(c) || c.Hooknum == nil && slices.ContainsFunc(r.bases, func(base *chain) bool {
		return base.Table.Family == k.family && base.Table.Name == k.table && arrive(base)
	})
}

func rewrites(rule []expr.Any) bool {
	return slices.ContainsFunc(rule, func(one expr.Any) bool {
		switch one := one.(type) {
		case *expr.Payload: // where an IPv4 header has its destination, or an IPv6 header
			return one.SourceRegister != 0 && one.Base == expr.PayloadBaseNetworkHeader &&
				(one.Offset == 16 && one.Len == 4 || one.Offset == 24 && one.Len == 16)
		case *expr.Target:
			return one.Name == "RAWDNAT"
		}
		return false
	})
}
