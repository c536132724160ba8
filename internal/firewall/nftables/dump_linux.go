package nftables

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// maxDump and maxDumpTime are how many elements of one set are read, and for how
// long. The kernel hands out fewer than a hundred at a time, and walks over all
// the earlier ones each time: a million take minutes.
const (
	maxDump     = 10000
	maxDumpTime = 2 * time.Second
)

// dump calls f for the elements of a set of ours, until there are no more or too
// many.
func dump(set string, most int, f func(element, time.Duration)) (whole bool, err error) {
	n, begin := 0, time.Now()
	return dumpTable(unix.NFT_MSG_GETSETELEM, netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(set + "\x00")},
		func(ad *netlink.AttributeDecoder) bool {
			for ad.Next() {
				if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
					continue
				}
				ad.Nested(func(ad *netlink.AttributeDecoder) error {
					for ad.Next() {
						e, left, err := decodeElement(ad)
						if err != nil {
							return err
						}
						f(e, left)
						n++
					}
					return ad.Err()
				})
			}
			return n < most && (most > maxDump || time.Since(begin) < maxDumpTime)
		})
}

// dumpTable asks the kernel for things of our table, and calls f for each message
// of the answer until f has enough.
func dumpTable(kind uint16, what netlink.Attribute, f func(*netlink.AttributeDecoder) bool) (whole bool, err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	// The table's name is the first attribute of every kind of request.
	attributes := []netlink.Attribute{{Type: 1, Data: []byte(Table + "\x00")}}
	if what.Data != nil {
		attributes = append(attributes, what)
	}
	request, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return false, err
	}
	if _, err := conn.Send(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, request...),
	}); err != nil {
		return false, err
	}
	for message, err := range conn.ReceiveIter() {
		if err != nil {
			return false, err
		}
		if len(message.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(message.Data[4:])
		if err != nil {
			return false, err
		}
		more := f(ad)
		if err := ad.Err(); err != nil {
			return false, err
		}
		if !more {
			// This ends the dump. The iterator would read the rest of it.
			return false, conn.Close()
		}
	}
	return true, nil
}

func decodeElement(list *netlink.AttributeDecoder) (e element, left time.Duration, err error) {
	value := func(to *[]byte) func(*netlink.AttributeDecoder) error {
		return func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() == unix.NFTA_DATA_VALUE {
					*to = ad.Bytes()
				}
			}
			return ad.Err()
		}
	}
	list.Nested(func(ad *netlink.AttributeDecoder) error {
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_SET_ELEM_KEY:
				ad.Nested(value(&e.key))
			case unix.NFTA_SET_ELEM_DATA:
				ad.Nested(value(&e.data))
			case unix.NFTA_SET_ELEM_EXPIRATION:
				left = time.Duration(ad.Uint64()) * time.Millisecond
			}
		}
		return ad.Err()
	})
	return e, left, list.Err()
}

// dumpProgress reads the knocks in progress.
func dumpProgress(f family) (all []firewall.Progress, whole bool, err error) {
	whole, err = dump("at"+f.suffix(), maxDump, func(e element, left time.Duration) {
		if source, ok := netip.AddrFromSlice(e.key); ok && len(e.data) == 4 {
			if id := automaton.StateID(binary.NativeEndian.Uint32(e.data)); id != nobody {
				all = append(all, firewall.Progress{Source: source, State: id, Left: left})
			}
		}
	})
	return all, whole, err
}

// dumpGrants reads who holds a grant, from a set of either kind.
func dumpGrants(set string, f family) (all []firewall.Grant, whole bool, err error) {
	at := f.bits() / 8
	whole, err = dump(set, maxDump, func(e element, left time.Duration) {
		if len(e.key) != at+4 {
			return
		}
		source, _ := netip.AddrFromSlice(e.key[:at])
		id := automaton.GrantID(binary.NativeEndian.Uint32(e.key[at:]))
		all = append(all, firewall.Grant{Source: source, ID: id, Left: left})
	})
	return all, whole, err
}

// dumpRules counts the rules of each chain.
func dumpRules() (map[string]int, error) {
	rules := map[string]int{}
	_, err := dumpTable(unix.NFT_MSG_GETRULE, netlink.Attribute{}, func(ad *netlink.AttributeDecoder) bool {
		for ad.Next() {
			if ad.Type() == unix.NFTA_RULE_CHAIN {
				rules[ad.String()]++
			}
		}
		return true
	})
	return rules, err
}
