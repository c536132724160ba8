//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"postern/internal/automaton"
)

// A sender is where a packet comes from; what is the zero value may be anything.
type sender struct {
	address netip.Addr
	name    string // the interface on which it arrives
	index   uint32
}

// maxSenders bounds the walks for one service.
const maxSenders = 64

// senders returns those whom a service's doors let in: the first and the last
// address of each network that may knock, on each interface of the policy. There
// are none if nobody of the family may knock.
func (r *Rules) senders(m *automaton.Machine, s *automaton.Service, is6 bool) []sender {
	var addresses []netip.Addr
	for i := range m.Doors {
		d := &m.Doors[i]
		if !slices.ContainsFunc(d.Services, func(at int) bool { return &m.Services[at] == s }) {
			continue
		}
		if len(d.From) == 0 {
			addresses = []netip.Addr{{}}
			break
		}
		for _, from := range d.From {
			if from.Addr().Is6() == is6 {
				addresses = append(addresses, from.Masked().Addr(), lastOf(from))
			}
		}
	}
	names := m.Policy.Interfaces
	if len(names) == 0 {
		names = []string{""}
	}
	var all []sender
	for _, a := range addresses {
		for _, name := range names {
			all = append(all, sender{a, name, r.indices[name]})
		}
	}
	return all[:min(len(all), maxSenders)]
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(bytes); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// from is the packet as a sender sends it.
func (p packet) from(s sender) packet {
	p.sender = s
	if s.address.IsValid() {
		p.network.put(p.sourceAt(), s.address.AsSlice()...)
	}
	return p
}

// sourceAt is the place of the source address in the network header.
func (p *packet) sourceAt() int {
	if p.is6 {
		return 8
	}
	return 12
}

// loadInterface loads what a rule asks about the packet's interface.
func (p *packet) loadInterface(r *registers, e *expr.Meta) {
	const nameSize = 16 // IFNAMSIZ
	switch {
	case e.Key == expr.MetaKeyIIFNAME && p.sender.name != "":
		var name [nameSize]byte
		copy(name[:], p.sender.name)
		r.put(e.Register, name[:])
		return
	case e.Key == expr.MetaKeyIIF && p.sender.index != 0:
		r.put(e.Register, binary.NativeEndian.AppendUint32(nil, p.sender.index))
		return
	}
	r.unknown(e.Register, nameSize)
	r.notLoopback = e.Key == expr.MetaKeyIIFNAME || e.Key == expr.MetaKeyIIF
	field := interfaceOther
	switch e.Key {
	case expr.MetaKeyIIFNAME:
		field = interfaceName
	case expr.MetaKeyIIF:
		field = interfaceIndex
	}
	r.dependsOnSender(e.Register, nameSize, field)
}

// dependsOnSender notes that unknown bytes depend on nothing but the sender, and on
// what of it.
func (r *registers) dependsOnSender(register uint32, length int, field senderField) {
	at := place(register)
	for i := at; i < min(at+length, len(r.sender)); i++ {
		r.sender[i], r.field[i] = true, field
	}
	delete(r.masks, at)
}

// A condition is what led to a rule, or to its verdict: whether it is about the
// packet's port, and what in it is unknown.
type condition struct {
	named bool

	some  bool // something that holds for some senders
	most  bool // something that holds for all senders but some
	other bool // something that depends on more than the sender

	who string // the senders that some and most are about: "from 198.51.100.7 on eth1"
}

// maybe reports whether anything is unknown.
func (c condition) maybe() bool { return c.some || c.most || c.other }

// onlyMost reports whether all but some senders meet the condition.
func (c condition) onlyMost() bool { return c.most && !c.some && !c.other }

// and returns the condition that both hold.
func (c condition) and(d condition) condition {
	return condition{c.named || d.named, c.some || d.some, c.most || d.most, c.other || d.other,
		strings.TrimSpace(c.who + " " + d.who)}
}

// doubt adds a comparison of a register that is unknown, with what certain senders
// have.
func (c *condition) doubt(r *registers, register uint32, negated bool, who string) {
	c.who = who
	switch sender := r.sender[place(register)]; {
	case sender && negated:
		c.most = true
	case sender:
		c.some = true
	default:
		c.other = true
	}
}

// doubtMatch adds a match of iptables' own that is unknown.
func (c *condition) doubtMatch(e *expr.Match) {
	info, ok := e.Info.(*xt.Unknown)
	c.who = whoMatch(e)
	const flagsAt, source, sourceInverted = 64, 1, 0x10 // struct xt_iprange_mtinfo
	// struct xt_set_info: of what its dimensions are, and bit 0 for "not". An ipset
	// of which any dimension is the sender's holds senders.
	const setFlagsAt, setSource, setInverted = 3, 2 | 4 | 8, 1
	const geoSource, geoInverted = 1, 4 // struct xt_geoip_match_info, of xtables-addons
	switch {
	case ok && e.Name == "mac":
		c.some = true
	case ok && e.Name == "iprange" && len(*info) > flagsAt && (*info)[flagsAt]&source != 0:
		c.most = c.most || (*info)[flagsAt]&sourceInverted != 0
		c.some = c.some || (*info)[flagsAt]&sourceInverted == 0
	case ok && e.Name == "set" && len(*info) > setFlagsAt && (*info)[setFlagsAt]&setSource != 0:
		c.most = c.most || (*info)[setFlagsAt]&setInverted != 0
		c.some = c.some || (*info)[setFlagsAt]&setInverted == 0
	case ok && e.Name == "geoip" && len(*info) > 1 && (*info)[0]&geoSource != 0:
		c.most = c.most || (*info)[0]&geoInverted != 0
		c.some = c.some || (*info)[0]&geoInverted == 0
	default:
		c.other = true
	}
}
