//go:build !(386 || arm || mips || mipsle)

package iptables

import (
	"errors"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// The nft variant creates tables, and the chains that the kernel calls, with the first
// rule in them. Remove deletes what was created for our rules, unless others have
// flushed the label that says so: then it stays, empty. The legacy
// variant's tables have all their chains from the beginning, and never go.

// missing returns, for each place, the chains that the kernel calls which are not there
// yet, and the table if that is not, as notes name them.
func (b Backend) missing() (map[place][]string, error) {
	all := map[place][]string{}
	for _, f := range availableFamilies() {
		v, err := b.command(f).version()
		if err != nil {
			return nil, err
		}
		if v.Variant != "nft" {
			continue
		}
		tables, err := chainsOf(f)
		if err != nil {
			return nil, err
		}
		for _, at := range places {
			if at.family != f {
				continue
			}
			chains, found := tables[at.table]
			if !found {
				all[at] = append(all[at], createdTable)
			}
			for _, name := range []string{"INPUT", "PREROUTING", "POSTROUTING"} {
				if !slices.Contains(chains, name) {
					all[at] = append(all[at], name)
				}
			}
		}
	}
	return all, nil
}

func (f Family) nft() nftables.TableFamily {
	if f == IPv6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

// chainsOf lists the chains of a family, by table.
func chainsOf(f Family) (map[string][]string, error) {
	conn := &nftables.Conn{}
	tables, err := conn.ListTablesOfFamily(f.nft())
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for _, t := range tables {
		all[t.Name] = nil
	}
	chains, err := conn.ListChainsOfTableFamily(f.nft())
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		all[c.Table.Name] = append(all[c.Table.Name], c.Name)
	}
	return all, nil
}

// removeCreated deletes what was made, by the notes of an earlier snapshot, where nothing
// of ours is to be any more and no others use it.
func (b Backend) removeCreated(before snapshot, still contents) error {
	for _, at := range places {
		c := before[at].content()
		if n, _ := c.label(); len(n.created) > 0 && len(still[at].chains) == 0 {
			if err := removeUnused(at, n.created); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeUnused deletes those of the chains that are unused, and the table if it was
// made, too, and has nothing else.
func removeUnused(at place, made []string) error {
	const tries = 4
	var err error
	for range tries {
		if err = removeUnusedOnce(at, made); !errors.Is(err, unix.ERESTART) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ERESTART), errors.Is(err, unix.EBUSY):
		return errChanged
	case errors.Is(err, unix.ENOENT): // others were faster
		return nil
	}
	return err
}

func removeUnusedOnce(at place, made []string) error {
	conn := &nftables.Conn{}
	generation, err := conn.GetGen()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: at.table, Family: at.family.nft()}
	tables, err := conn.ListTablesOfFamily(table.Family)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == at.table }) {
		return nil
	}
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return err
	}
	left := 0
	for _, c := range chains {
		if c.Table.Name != at.table {
			continue
		}
		rules, err := conn.GetRules(table, c)
		empty := err == nil && len(rules) == 0 // rules that the library cannot read are rules
		if empty && slices.Contains(made, c.Name) && (c.Policy == nil || *c.Policy == nftables.ChainPolicyAccept) {
			conn.DelChain(c)
		} else {
			left++
		}
	}
	sets, err := conn.GetSets(table)
	if err != nil {
		return err
	}
	objects, err := conn.GetNamedObjects(table)
	if err != nil {
		return err
	}
	if left+len(sets)+len(objects) == 0 && slices.Contains(made, createdTable) {
		conn.DelTable(table)
	}
	// All or nothing, and only while the rules are those that were looked at.
	return conn.FlushWithGenID(generation.ID)
}
