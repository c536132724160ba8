//go:build !(386 || arm || mips || mipsle)

package otherrules

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"unsafe"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/firewall/backends"
)

// Read reads the rule sets of the network namespace of the calling thread, but for
// the chains of Postern's backends. Chains that cannot be understood are left out, too.
func Read() (*Rules, error) {
	conn := &nft.Conn{}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("reading the other rules on this host: %w", err)
	}
	r := &Rules{chains: map[chainKey]*chain{}}
	for _, c := range chains {
		if backends.Own(familyName(c.Table.Family)+" "+c.Table.Name, c.Name) {
			continue
		}
		if !has(c.Table.Family, false) && !has(c.Table.Family, true) {
			continue // of a bridge, say
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			continue
		}
		read := &chain{Chain: c}
		for _, rule := range rules {
			read.rules = append(read.rules, rule.Exprs)
		}
		r.chains[chainKey{c.Table.Family, c.Table.Name, c.Name}] = read
		if c.Hooknum != nil {
			r.bases = append(r.bases, read)
		}
	}
	slices.SortStableFunc(r.bases, order)

	// Sets are read when a rule looks something up in them: lists of blocked
	// addresses may be long, and nothing depends on them.
	type key struct {
		family     nft.TableFamily
		table, set string
	}
	sets := map[key]*set{}
	r.sets = func(t *nft.Table, name string) *set {
		k := key{t.Family, t.Name, name}
		if s, ok := sets[k]; ok {
			return s
		}
		sets[k] = nil
		if s, err := conn.GetSetByName(t, name); err == nil {
			if elements, err := conn.GetSetElements(s); err == nil {
				for i := range elements {
					if e := &elements[i]; e.VerdictData == nil {
						e.VerdictData = decodeVerdict(e.Val)
					}
				}
				sets[k] = &set{interval: s.Interval, elements: elements}
			}
		}
		return sets[k]
	}
	r.legacy = readLegacy()
	r.indices = map[string]uint32{}
	if all, err := net.Interfaces(); err == nil {
		for _, i := range all {
			r.indices[i.Name] = uint32(i.Index)
		}
	}
	return r, nil
}

// decodeVerdict reads the verdict that an element maps to, which the library
// leaves in the kernel's form. It returns nil for what is no verdict.
func decodeVerdict(data []byte) *expr.Verdict {
	attributes, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return nil
	}
	attributes.ByteOrder = binary.BigEndian
	var v *expr.Verdict
	for attributes.Next() {
		switch attributes.Type() {
		case unix.NFTA_VERDICT_CODE:
			if len(attributes.Bytes()) != 4 {
				return nil
			}
			v = &expr.Verdict{Kind: expr.VerdictKind(int32(attributes.Uint32()))}
		case unix.NFTA_VERDICT_CHAIN:
			if v != nil {
				v.Chain = attributes.String()
			}
		}
	}
	if attributes.Err() != nil {
		return nil
	}
	return v
}

// readLegacy reads the defaults of iptables-legacy, where it is in use.
func readLegacy() []legacy {
	var found []legacy
	for _, l := range []struct {
		names         string
		family, level int
		targetOffset  int // of the target's own offset, in an entry
	}{
		{"/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, 88},
		{"/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, 140},
	} {
		names, err := os.ReadFile(l.names)
		if err != nil || !slices.Contains(strings.Fields(string(names)), "filter") {
			continue // asking for the table would make one
		}
		info, table, err := legacyTable(l.family, l.level)
		if err != nil {
			continue
		}
		underflow := func(hook int) uint32 { return binary.NativeEndian.Uint32(info[infoUnderflow+4*hook:]) }
		found = append(found, legacy{
			is6:            l.family == unix.AF_INET6,
			dropsInput:     drops(table, underflow(hookInput), l.targetOffset),
			dropsForwarded: drops(table, underflow(hookForward), l.targetOffset),
		})
	}
	return found
}

// legacyTable reads the filter table as iptables does.
func legacyTable(family, level int) (info, table []byte, err error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	const getInfo, getEntries = 64, 65 // IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES
	info = make([]byte, infoSize)
	copy(info, "filter")
	if err := getsockopt(fd, level, getInfo, info); err != nil {
		return nil, nil, err
	}
	size := binary.NativeEndian.Uint32(info[infoBytes:])
	answer := make([]byte, entriesHeader+int(size))
	copy(answer, "filter")
	binary.NativeEndian.PutUint32(answer[32:], size)
	if err := getsockopt(fd, level, getEntries, answer); err != nil {
		return nil, nil, err
	}
	return info, answer[entriesHeader:], nil
}

// getsockopt is getsockopt(2) with a buffer that says what is asked for.
func getsockopt(fd, level, name int, buffer []byte) error {
	length := uint32(len(buffer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
