package nftables

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
)

// maxDump and maxDumpTime are how many sources are read from one set, and for how long.
// The kernel hands out a few hundred elements at a time, and walks over all the earlier
// ones each time: a million take minutes. In two seconds it gets over 100,000.
const (
	maxDump     = 10000
	maxDumpTime = 2 * time.Second
)

// A lifetime is that of an element with a timeout.
type lifetime struct {
	whole, left time.Duration
}

// since returns when it began; the zero time if it has no end.
func (l lifetime) since() time.Time {
	if l.whole == 0 {
		return time.Time{}
	}
	return time.Now().Add(l.left - l.whole)
}

// dump calls f for the elements of a set of ours, until there are no more or f has
// enough. See dumpWhole for what it may lack.
func dump(set string, f func(element, lifetime) (more bool)) (whole bool, err error) {
	return dumpTable(unix.NFT_MSG_GETSETELEM, netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(set + "\x00")},
		func(ad *netlink.AttributeDecoder) bool {
			more := true
			for ad.Next() {
				if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
					continue
				}
				ad.Nested(func(ad *netlink.AttributeDecoder) error {
					for more && ad.Next() {
						e, left, err := decodeElement(ad)
						if err != nil {
							return err
						}
						more = f(e, left)
					}
					return ad.Err()
				})
			}
			return more
		})
}

// maxListings is how often a set is listed again, as its hash table changed its size.
const maxListings = 10

// dumpWhole calls f for each element of a set of ours that packets do not change, once.
//
// The kernel walks over the hash table anew for each message of a listing, and skips as
// many elements as it has handed out (nft_rhash_walk, Linux 6.18). A worker resizes
// the table some time after elements were added, and they change places: then a listing
// has some elements twice, and lacks as many others.
func dumpWhole(set string, f func(element, lifetime)) error {
	listed := map[string]int{} // key -> the last listing that has it
	for n, twice := 1, true; twice && n <= maxListings; n++ {
		twice = false
		if _, err := dump(set, func(e element, left lifetime) bool {
			last := listed[string(e.key)]
			listed[string(e.key)] = n
			twice = twice || last == n
			if last == 0 {
				f(e, left)
			}
			return true
		}); err != nil {
			return err
		}
	}
	return nil
}

// dumpSources is dump for a set that packets fill: until f has kept so many, or for so
// long.
func dumpSources(set string, f func(element, lifetime) (kept bool)) (whole bool, err error) {
	n, until := 0, time.Now().Add(maxDumpTime)
	return dump(set, func(e element, left lifetime) bool {
		if f(e, left) {
			n++
		}
		return n < maxDump && time.Now().Before(until)
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
	// The kernel makes its answers as large as the largest buffer that it was asked to
	// fill, up to 32 KB (netlink_dump, Linux 6.18).
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	for buffer := make([]byte, 64<<10); ; {
		n, failed := 0, error(nil)
		if err := raw.Read(func(fd uintptr) bool {
			n, _, failed = unix.Recvfrom(int(fd), buffer, 0)
			return failed != unix.EAGAIN
		}); err != nil {
			return false, err
		}
		if failed != nil {
			return false, os.NewSyscallError("recvfrom", failed)
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return false, err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(m.Data) >= 4 {
					if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
						return false, os.NewSyscallError("netlink", syscall.Errno(-code))
					}
				}
				return true, nil
			}
			if len(m.Data) < 4 {
				continue
			}
			ad, err := netlink.NewAttributeDecoder(m.Data[4:])
			if err != nil {
				return false, err
			}
			more := f(ad)
			if err := ad.Err(); err != nil || !more {
				return false, err
			}
		}
	}
}

func decodeElement(list *netlink.AttributeDecoder) (e element, left lifetime, err error) {
	value := func(to *[]byte) func(*netlink.AttributeDecoder) error {
		return func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() == unix.NFTA_DATA_VALUE {
					*to = ad.Bytes()
				}
				if ad.Type() == unix.NFTA_DATA_VERDICT {
					ad.Nested(func(ad *netlink.AttributeDecoder) error { return decodeVerdict(ad, &e) })
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
				left.left = time.Duration(ad.Uint64()) * time.Millisecond
			case unix.NFTA_SET_ELEM_TIMEOUT:
				left.whole = time.Duration(ad.Uint64()) * time.Millisecond
			}
		}
		return ad.Err()
	})
	return e, left, list.Err()
}

// decodeVerdict reads where an element leads to.
func decodeVerdict(ad *netlink.AttributeDecoder, e *element) error {
	ad.ByteOrder = binary.BigEndian
	v := &expr.Verdict{}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			v.Kind = expr.VerdictKind(int32(ad.Uint32()))
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = ad.String()
		}
	}
	e.verdict = v
	return ad.Err()
}

// dumpProgress reads the knocks in progress.
func dumpProgress(f family) (all []firewall.Progress, whole bool, err error) {
	whole, err = dumpSources("at"+f.suffix(), func(e element, left lifetime) bool {
		source, ok := netip.AddrFromSlice(e.key)
		if !ok || len(e.data) != 4 {
			return false
		}
		id := automaton.StateID(binary.NativeEndian.Uint32(e.data))
		if id == nobody { // as a scan leaves for each of its sources
			return false
		}
		all = append(all, firewall.Progress{Source: source, State: id, Left: left.left})
		return true
	})
	return all, whole, err
}

// dumpNoted reads the first knocks that the program of package bpf has noted.
func dumpNoted() (all []firewall.Progress, whole bool, err error) {
	leads := map[uint16]automaton.StateID{}
	if err := dumpWhole("noted", func(e element, _ lifetime) {
		if len(e.key) == 4 && len(e.data) == 4 {
			leads[uint16(binary.NativeEndian.Uint32(e.key))] = automaton.StateID(binary.NativeEndian.Uint32(e.data))
		}
	}); err != nil {
		return nil, false, err
	}
	whole = true
	err = verifier.Noted(func(n bpf.Noted) bool {
		if id, ok := leads[n.Port]; ok {
			all = append(all, firewall.Progress{Source: n.Source, State: id, Left: n.Left})
		}
		whole = len(all) < maxDump
		return whole
	})
	return all, whole, err
}

// dumpGrants reads who holds a grant, from a set of either kind.
func dumpGrants(set string, f family) (all []firewall.Grant, whole bool, err error) {
	at := f.bits() / 8
	whole, err = dumpSources(set, func(e element, left lifetime) bool {
		if len(e.key) != at+4 {
			return false
		}
		source, _ := netip.AddrFromSlice(e.key[:at])
		id := automaton.GrantID(binary.NativeEndian.Uint32(e.key[at:]))
		all = append(all, firewall.Grant{Source: source, ID: id, Left: left.left, Given: left.since()})
		return true
	})
	return all, whole, err
}

// dumpOpened adds to the uses of keys the sources that they have opened something for.
func dumpOpened(f family, keys []firewall.KeyUse) (whole bool, err error) {
	of := map[uint32]*firewall.KeyUse{}
	for i := range keys {
		of[keys[i].Code] = &keys[i]
	}
	at := f.bits() / 8
	return dumpSources("opened"+f.suffix(), func(e element, left lifetime) bool {
		if len(e.key) != at+4 {
			return false
		}
		use := of[binary.NativeEndian.Uint32(e.key[at:])]
		if use == nil {
			return false
		}
		source, _ := netip.AddrFromSlice(e.key[:at])
		use.Opened = append(use.Opened, firewall.Opening{Source: source, When: left.since()})
		return true
	})
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
