//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/firewall/backends"
	"postern/internal/paragraph"
	"postern/internal/preflight"
)

// A hook is a chain that the kernel calls.
type hook struct {
	where    int // the hook's number
	priority int
	table    string // with its family
	chain    string
	policy   string
	own      bool
}

const hookInput, hookForward = 1, 2

var hookNames = []string{"prerouting", "input", "forward", "output", "postrouting"}

// hooks looks at who judges a packet, in the kernel's order. Others is true if a
// program other than Postern filters what comes in or passes through: one that has
// rules there, or drops by default.
func hooks() (e Entry, others bool) {
	e.Name = "hooks"
	conn := &nft.Conn{}
	chains, err := conn.ListChains()
	if err != nil {
		e.Seen = "not read"
		e.Findings = []preflight.Finding{{
			Kind: HooksUnread, Severity: preflight.Note,
			Message: "who else judges packets is not known: " + reason(err),
			Hints:   []string{"repeat as root for the whole answer"},
		}}
		return e, false
	}
	var all []hook
	for _, c := range chains {
		if c.Hooknum == nil || c.Priority == nil || int(*c.Hooknum) >= len(hookNames) {
			continue
		}
		family := map[nft.TableFamily]string{nft.TableFamilyINet: "inet", nft.TableFamilyIPv4: "ip", nft.TableFamilyIPv6: "ip6"}[c.Table.Family]
		if family == "" {
			continue // of bridges, or of one device
		}
		h := hook{where: int(*c.Hooknum), priority: int(*c.Priority), table: family + " " + c.Table.Name, chain: c.Name, policy: "accept"}
		if c.Policy != nil && *c.Policy == nft.ChainPolicyDrop {
			h.policy = "drop"
		}
		own, foreign := rulesIn(conn, c, h.table)
		h.own = backends.Own(h.table, h.chain) || own && !foreign && h.policy == "accept"
		filters := c.Type == nft.ChainTypeFilter && (h.where == hookInput || h.where == hookForward)
		others = others || !h.own && filters && (foreign || h.policy == "drop")
		all = append(all, h)
	}
	// The sort is stable: those of one priority are called in the order of their tables.
	slices.SortStableFunc(all, func(a, b hook) int {
		return cmp.Or(cmp.Compare(a.where, b.where), cmp.Compare(a.priority, b.priority))
	})
	legacy := legacyTables()
	others = others || slices.ContainsFunc(legacy, func(table string) bool { return strings.HasSuffix(table, " filter") })
	e.Seen = "nobody but the kernel itself"
	var rows [][]string
	for _, h := range all {
		whose := ""
		if h.own {
			whose = "postern's own"
		}
		rows = append(rows, []string{hookNames[h.where], fmt.Sprint(h.priority), h.table, h.chain, "policy " + h.policy, whose})
	}
	e.Lines = paragraph.Columns(rows)
	for i := range e.Lines {
		e.Lines[i] = strings.TrimRight(e.Lines[i], " ")
	}
	if len(legacy) > 0 {
		e.Lines = append(e.Lines, "and the tables of iptables-legacy: "+paragraph.List(legacy))
	}
	switch {
	case len(legacy) > 0 || slices.ContainsFunc(all, func(h hook) bool { return !h.own }):
		e.Seen = "others judge packets as well; the kernel asks in this order"
	case len(all) > 0:
		e.Seen = "only postern judges packets"
	}
	return e, others
}

// rulesIn reports whether a chain has rules that jump to chains of Postern's, as it has in
// those of iptables, and whether it has others. One that cannot be read may have others.
func rulesIn(conn *nft.Conn, c *nft.Chain, table string) (own, foreign bool) {
	rules, err := conn.GetRules(c.Table, c)
	if err != nil {
		return false, true
	}
	for _, r := range rules {
		jumps := slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
			v, ok := e.(*expr.Verdict)
			return ok && backends.Own(table, v.Chain)
		})
		own, foreign = own || jumps, foreign || !jumps
	}
	return own, foreign
}

// legacyTables returns the tables of iptables-legacy that are in use.
func legacyTables() []string {
	var all []string
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + name)
		if err != nil {
			continue
		}
		for _, table := range strings.Fields(string(text)) {
			all = append(all, strings.TrimSuffix(name, "_tables_names")+" "+table)
		}
	}
	return all
}
