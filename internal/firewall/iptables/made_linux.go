//go:build !(386 || arm || mips || mipsle)

package iptables

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The nft variant makes tables, and the chains that the kernel calls, as soon as
// somebody wants a rule in them. What it has made for us goes with us, unless somebody
// has flushed the note that tells: then it stays, empty, as nobody's. The legacy
// variant's tables have all their chains from the beginning, and never go.

// lacking gives, of each place, the chains that the kernel calls which are not there
// yet, and the table if that is not, as notes name them.
func (b Backend) lacking() (map[place][]string, error) {
	all := map[place][]string{}
	for _, f := range spoken() {
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
				all[at] = append(all[at], madeTable)
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

// dropMade deletes what was made, by the notes of an earlier snapshot, where nothing
// of ours is to be any more and nobody else has come.
func (b Backend) dropMade(before snapshot, still contents) error {
	for _, at := range places {
		c := before[at].content()
		if n, _ := c.note(); len(n.made) > 0 && len(still[at].chains) == 0 {
			if err := dropUnused(at, n.made); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropUnused deletes those of the chains that nobody uses, and the table if it was
// made, too, and has nothing else.
func dropUnused(at place, made []string) error {
	const tries = 4
	var err error
	for range tries {
		if err = dropUnusedNow(at, made); !errors.Is(err, unix.ERESTART) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ERESTART), errors.Is(err, unix.EBUSY):
		return errChanged
	case errors.Is(err, unix.ENOENT): // somebody else was faster
		return nil
	}
	return err
}

func dropUnusedNow(at place, made []string) error {
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
	var drop []string
	left := 0
	for _, c := range chains {
		if c.Table.Name != at.table {
			continue
		}
		empty, err := ruleless(at, c.Name)
		if err != nil {
			return err
		}
		if empty && slices.Contains(made, c.Name) && (c.Policy == nil || *c.Policy == nftables.ChainPolicyAccept) {
			drop = append(drop, c.Name)
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
	left += len(sets) + len(objects)
	return dropAll(at, drop, left == 0 && slices.Contains(made, madeTable), generation.ID)
}

// ruleless tells whether a chain has no rule of any kind.
func ruleless(at place, chain string) (bool, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	data, err := named(at, chain, unix.NFTA_RULE_CHAIN)
	if err != nil {
		return false, err
	}
	rules, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   data,
	})
	return len(rules) == 0, err
}

// named says which thing of a table a message is about. The table's name is the
// first attribute of every kind of message.
func named(at place, name string, attribute uint16) ([]byte, error) {
	attributes := []netlink.Attribute{{Type: 1, Data: []byte(at.table + "\x00")}}
	if name != "" {
		attributes = append(attributes, netlink.Attribute{Type: attribute, Data: []byte(name + "\x00")})
	}
	data, err := netlink.MarshalAttributes(attributes)
	return append([]byte{byte(at.family.nft()), unix.NFNETLINK_V0, 0, 0}, data...), err
}

// dropAll deletes chains, and then perhaps the table, all or nothing, and only while
// the kernel's rules are of the generation that was looked at.
func dropAll(at place, chains []string, table bool, generation uint32) error {
	if len(chains) == 0 && !table {
		return nil
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	const batchGenID = 1 // NFNL_BATCH_GENID (Linux 4.12)
	id, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: batchGenID, Data: binary.BigEndian.AppendUint32(nil, generation)},
	})
	if err != nil {
		return err
	}
	frame := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	request := func(kind uint16, data []byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request}, Data: data}
	}
	batch := []netlink.Message{request(unix.NFNL_MSG_BATCH_BEGIN, append(slices.Clone(frame), id...))}
	for _, name := range chains {
		data, err := named(at, name, unix.NFTA_CHAIN_NAME)
		if err != nil {
			return err
		}
		batch = append(batch, request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELCHAIN, data))
	}
	if table {
		data, err := named(at, "", 0)
		if err != nil {
			return err
		}
		batch = append(batch, request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, data))
	}
	batch[len(batch)-1].Header.Flags |= netlink.Acknowledge
	batch = append(batch, request(unix.NFNL_MSG_BATCH_END, frame))
	if _, err := conn.SendMessages(batch); err != nil {
		return err
	}
	_, err = conn.Receive()
	return err
}
