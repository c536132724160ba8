//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"encoding/binary"
	"net/netip"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"postern/internal/policy"
)

// mostPorts bounds the ports of one range that are looked at, and all of them.
const (
	mostOfRange = 256
	mostPorts   = 4096
)

// Published returns the ports of this host that other rules send on: those that they
// name, as Docker does for each port of a container.
func (r *Rules) Published() []Published {
	var bases []*chain
	for _, c := range r.bases {
		if *c.Hooknum == *nft.ChainHookPrerouting && c.Type == nft.ChainTypeNAT {
			bases = append(bases, c)
		}
	}
	if len(bases) == 0 {
		return nil
	}
	var all []Published
	numbers := r.namedPorts()
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		for _, number := range numbers {
			port := policy.Port{Protocol: protocol, Number: number}
			if p, ok := r.published(bases, port); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// published returns where a port is sent, by the first rule set that does.
func (r *Rules) published(bases []*chain, port policy.Port) (Published, bool) {
	for _, is6 := range []bool{false, true} {
		for _, c := range bases {
			if !has(c.Table.Family, is6) {
				continue
			}
			if v := r.walk(c, newPacket(port, netip.Addr{}, is6)); v.diverts {
				return Published{
					Port: port, To: v.to, Table: familyName(c.Table.Family) + " " + c.Table.Name, Chain: c.Name, Manager: r.manager(c),
				}, true
			}
		}
	}
	return Published{}, false
}

// namedPorts returns the ports that rules of tables with NAT name, sorted.
func (r *Rules) namedPorts() []uint16 {
	tables := map[chainKey]bool{}
	for _, c := range r.bases {
		if c.Type == nft.ChainTypeNAT {
			tables[chainKey{c.Table.Family, c.Table.Name, ""}] = true
		}
	}
	found := map[uint16]bool{}
	add := func(first, last uint16) {
		for n := int(first); n <= int(last) && n < int(first)+mostOfRange && len(found) < mostPorts; n++ {
			found[uint16(n)] = true
		}
	}
	for key, c := range r.chains {
		if !tables[chainKey{key.family, key.table, ""}] {
			continue
		}
		for _, rule := range c.rules {
			asksPort := false
			for _, e := range rule {
				switch e := e.(type) {
				case *expr.Payload:
					asksPort = asksPort || e.Base == expr.PayloadBaseTransportHeader && e.Offset <= 2 && e.Offset+e.Len >= 4
				case *expr.Cmp:
					if asksPort && len(e.Data) == 2 {
						add(binary.BigEndian.Uint16(e.Data), binary.BigEndian.Uint16(e.Data))
					}
				case *expr.Range:
					if asksPort && len(e.FromData) == 2 && len(e.ToData) == 2 {
						add(binary.BigEndian.Uint16(e.FromData), binary.BigEndian.Uint16(e.ToData))
					}
				case *expr.Lookup:
					if asksPort {
						addKeys(r.sets(c.Table, e.SetName), add)
					}
				case *expr.Match:
					addMatch(e, add)
				}
			}
		}
	}
	all := make([]uint16, 0, len(found))
	for n := range found {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// addKeys adds the ports in a set: its keys, or the last words of concatenations.
func addKeys(s *set, add func(first, last uint16)) {
	for _, e := range s.all() {
		if n := len(e.Key); n == 2 || n > 4 && n%4 == 0 { // a word holds two bytes, and then nothing
			at := max(0, n-4)
			port := binary.BigEndian.Uint16(e.Key[at:])
			add(port, port)
		}
	}
}

// addMatch adds the ports of a match of iptables' own.
func addMatch(e *expr.Match, add func(first, last uint16)) {
	switch info := e.Info.(type) {
	case *xt.Tcp:
		add(info.DstPorts[0], info.DstPorts[1])
	case *xt.Udp:
		add(info.DstPorts[0], info.DstPorts[1])
	case *xt.Unknown:
		const ports = 15 // see multiport
		if e.Name == "multiport" && len(*info) >= 2+2*ports {
			for i := range min(int((*info)[1]), ports) {
				n := binary.NativeEndian.Uint16((*info)[2+2*i:])
				add(n, n)
			}
		}
	}
}

// divertedTo returns where nft's dnat sends a packet.
func (r *registers) divertedTo(e *expr.NAT) netip.AddrPort {
	size := 4
	if e.Family == uint32(nft.TableFamilyIPv6) {
		size = 16
	}
	if e.RegAddrMin == 0 {
		return netip.AddrPort{}
	}
	value, known := r.get(e.RegAddrMin, size)
	to, ok := netip.AddrFromSlice(value)
	if !ok || !isKnown(known) {
		return netip.AddrPort{}
	}
	var port uint16
	if e.RegProtoMin != 0 {
		if value, known := r.get(e.RegProtoMin, 2); len(value) == 2 && isKnown(known) {
			port = binary.BigEndian.Uint16(value)
		}
	}
	return netip.AddrPortFrom(to, port)
}

// divertedToLegacy returns where iptables' DNAT sends a packet.
func divertedToLegacy(e *expr.Target) netip.AddrPort {
	switch info := e.Info.(type) {
	case *xt.NatIPv4MultiRangeCompat:
		if len(*info) == 1 {
			if a, ok := netip.AddrFromSlice((*info)[0].MinIP.To4()); ok {
				return netip.AddrPortFrom(a, (*info)[0].MinPort)
			}
		}
	case *xt.NatRange:
		if a, ok := netip.AddrFromSlice(info.MinIP); ok {
			return netip.AddrPortFrom(a.Unmap(), info.MinPort)
		}
	case *xt.NatRange2:
		if a, ok := netip.AddrFromSlice(info.MinIP); ok {
			return netip.AddrPortFrom(a.Unmap(), info.MinPort)
		}
	}
	return netip.AddrPort{}
}
