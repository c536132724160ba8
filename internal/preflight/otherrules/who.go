//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// What a rule asks about the sender is also kept in words, for the person who wrote
// it: "from 198.51.100.0/24", "on eth1".

// A senderField is what a register holds of the sender.
type senderField uint8

const (
	notSender senderField = iota
	sourceAddress
	sourceAddress6
	interfaceName
	interfaceIndex
	interfaceOther // its type, or group
	linkLayer      // the hardware address
)

func (f senderField) isAddress() bool { return f == sourceAddress || f == sourceAddress6 }

// mostElements is how many elements of a set are named before the set is.
const mostElements = 3

// who describes the senders of which a register holds a value.
func (r *Rules) who(regs *registers, register uint32, value []byte) string {
	at := place(register)
	switch regs.field[at] {
	case sourceAddress, sourceAddress6:
		if p, ok := network(value, regs.masks[at], regs.field[at] == sourceAddress6); ok {
			return "from " + p
		}
	case interfaceName:
		if name, whole := bytes.CutSuffix(value, []byte{0}); whole {
			return "on " + string(bytes.TrimRight(name, "\x00"))
		}
		return "on " + string(value) + "*"
	case interfaceIndex:
		for name, index := range r.indices {
			if bytes.Equal(value, binary.NativeEndian.AppendUint32(nil, index)) {
				return "on " + name
			}
		}
	case linkLayer:
		if len(value) == 6 {
			return "from " + net.HardwareAddr(value).String()
		}
	}
	return ""
}

// whoWithin describes those between two values.
func (r *Rules) whoWithin(regs *registers, e *expr.Range) string {
	first, ok := netip.AddrFromSlice(e.FromData)
	last, ok2 := netip.AddrFromSlice(e.ToData)
	if !regs.field[place(e.Register)].isAddress() || !ok || !ok2 {
		return ""
	}
	return fmt.Sprintf("from %s-%s", first, last)
}

// whoAmong describes those in a set.
func (r *Rules) whoAmong(regs *registers, register uint32, s *set, name string) string {
	field := regs.field[place(register)]
	if field == notSender {
		return ""
	}
	var all []string
	switch {
	case s == nil:
	case s.interval && field.isAddress():
		for _, p := range s.networks() {
			all = append(all, "from "+p)
		}
	case !s.interval:
		for i := range s.elements {
			all = append(all, r.who(regs, register, s.elements[i].Key))
		}
		slices.Sort(all)
	}
	if len(all) > 0 && len(all) <= mostElements && !slices.Contains(all, "") {
		return alternatives(all)
	}
	if name = "set " + name; strings.HasPrefix(name, "set __") { // nft's own name for one in a rule
		name = "a list"
	}
	if field.isAddress() || field == linkLayer {
		return "from those in " + name
	}
	return "on interfaces in " + name
}

// networks writes the intervals of a set of addresses.
func (s *set) networks() []string {
	elements := slices.SortedFunc(slices.Values(s.elements), func(a, b nft.SetElement) int {
		return bytes.Compare(a.Key, b.Key)
	})
	var all []string
	for i, e := range elements {
		first, ok := netip.AddrFromSlice(e.Key)
		if e.IntervalEnd || !ok || i+1 == len(elements) {
			continue
		}
		end, _ := netip.AddrFromSlice(elements[i+1].Key)
		text := fmt.Sprintf("%s-%s", first, end.Prev())
		for n := range first.BitLen() + 1 {
			if p := netip.PrefixFrom(first, n); p.Masked() == p && lastOf(p) == end.Prev() {
				if text = p.String(); p.IsSingleIP() {
					text = first.String()
				}
				break
			}
		}
		all = append(all, text)
	}
	return all
}

// alternatives writes "from a, b": all begin with the same word, or are listed as they
// are.
func alternatives(all []string) string {
	first, _, _ := strings.Cut(all[0], " ")
	text := all[0]
	for _, one := range all[1:] {
		if rest, same := strings.CutPrefix(one, first+" "); same {
			one = rest
		}
		text += ", " + one
	}
	return text
}

// whoMatch describes those who meet a match of iptables' own.
func whoMatch(e *expr.Match) string {
	info, ok := e.Info.(*xt.Unknown)
	if !ok {
		return ""
	}
	switch {
	case e.Name == "mac" && len(*info) >= 6:
		return "from " + net.HardwareAddr((*info)[:6]).String()
	case e.Name == "iprange" && len(*info) >= 32: // struct xt_iprange_mtinfo: two addresses of 16 bytes
		size := 4
		if !bytes.Equal((*info)[4:16], make([]byte, 12)) {
			size = 16
		}
		first, _ := netip.AddrFromSlice((*info)[:size])
		last, _ := netip.AddrFromSlice((*info)[16 : 16+size])
		return fmt.Sprintf("from %s-%s", first, last)
	case e.Name == "set":
		return "from those in an ipset"
	case e.Name == "geoip":
		return "from some countries"
	}
	return ""
}

// network writes an address, or as much of one as a rule looks at.
func network(value, mask []byte, is6 bool) (string, bool) {
	size := 4
	if is6 {
		size = 16
	}
	prefix := len(value) * 8 // nft loads only the bytes that count
	if len(mask) == len(value) {
		prefix = 0
		for _, b := range mask {
			prefix += bits.OnesCount8(b)
		}
	}
	whole := make([]byte, size)
	if copy(whole, value) != len(value) || len(value) == 0 {
		return "", false
	}
	a, _ := netip.AddrFromSlice(whole)
	if prefix == a.BitLen() {
		return a.String(), true
	}
	return netip.PrefixFrom(a, prefix).String(), true
}
