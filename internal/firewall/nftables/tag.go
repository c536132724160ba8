//go:build linux

package nftables

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/policy"
)

// tagSets are what verifies tokens where no program can: the first bytes of those that
// are to come. They outlive the rules, as what packets change does.
type tagSets struct {
	tags   *set // tag -> code
	early  *set // the tags of tokens that are from the future
	used   *set // the tags that have opened something
	first  *set // the same, while they count: lets one packet of each through
	loaded *set // whose tags are loaded, and of which times

	distrust bool // what is in the kernel, but for what is used
}

func (s *tagSets) all() []*set { return []*set{s.tags, s.early, s.used, s.first, s.loaded} }

// void returns the sets whose elements in the kernel count no more, where it has used ones or
// not.
func (s *tagSets) void(used bool) []*set {
	switch {
	case !used: // nobody knows which tags are used
		return s.all()
	case s.distrust:
		return []*set{s.tags, s.early, s.loaded}
	}
	return nil
}

// usedFor is how long it is known that a tag is used. While it is, the tag may be loaded
// again: the clock may be set back by as much.
const usedFor = 24 * time.Hour

// firstFor is as long as a tag counts.
var firstFor = key.DefaultWindow.Behind + key.DefaultWindow.Ahead

// How many tags may be used in these times. Where a set is full, no token opens anything.
const (
	maxUsed  = 1 << 20 // a full one takes the kernel some 100 MB
	maxFirst = 1 << 16 // more than can be right at the same time
)

// sweep is how often the kernel looks through a set for elements that have ended. They
// count as gone before, and going through half a million takes the kernel 0.07 s. nft
// 1.0 cannot read this of a map, and would not read its own list again.
const sweep = time.Minute

// verifyByTags adds to a rule set what gives packets with right tokens their codes, in the
// place of the program of package bpf. It is no part of the digest: the rules do the same
// with either.
//
// Two sets say that a tag is used. Two processors may find at the same moment that it is not;
// then a limit in its element of the set first lets one of them on. But nft lists a limit
// without what is used of it: where a listing is loaded, it begins anew. So used_tags has no
// limits, and is asked before.
func (r *Ruleset) verifyByTags(p *policy.Policy) {
	tag := nft.TypeInteger
	tag.Bytes = uint32(len(key.Tag{}))
	r.tagSets = &tagSets{
		tags:   &set{name: "tags", key: []datatype{tag}, data: &nft.TypeClassID, timeout: true},
		early:  &set{name: "early", key: []datatype{tag}, timeout: true, sweep: sweep},
		used:   &set{name: "used_tags", key: []datatype{tag}, dynamic: true, timeout: true, size: maxUsed, sweep: sweep},
		first:  &set{name: "first", key: []datatype{tag}, dynamic: true, timeout: true, size: maxFirst, sweep: sweep},
		loaded: &set{name: "tagged", key: []datatype{nft.TypeClassID, nft.TypeClassID, nft.TypeClassID, nft.TypeClassID, nft.TypeClassID}, timeout: true},
	}
	r.sets = append(r.sets, r.tagSets.all()...)
	verify := &chain{name: "verify", base: &base{nft.ChainTypeFilter, nft.ChainHookPrerouting, "prerouting", -301, "raw - 1"}}
	r.chains = append(r.chains, verify)
	// The tag is where the header ends. A SYN's has the options that Linux sends: with
	// timestamps, or without.
	after := func(header int) *chain {
		at := tagAt(header)
		ch := &chain{name: fmt.Sprintf("tagged_%d", header)}
		ch.add(in(r.tagSets.early, at), carryID(0), accept)
		ch.add(in(r.tagSets.used, at), carryID(0), accept)
		ch.add(insert(r.tagSets.first, firstFor, at).limited(rate{n: 1, unit: expr.LimitTimeWeek, burst: 1}), insert(r.tagSets.used, usedFor, at), accept)
		ch.add(carryID(0))
		r.chains = append(r.chains, ch)
		return ch
	}
	port := p.Keys.Port.Number
	short := after(8)
	verify.add(isPort(dport(policy.UDP), port), carryFrom(r.tagSets.tags, tagAt(8)), goTo(short))
	for _, f := range families {
		verify.add(isEcho(f), carryFrom(r.tagSets.tags, tagAt(8)), goTo(short))
	}
	for _, header := range []int{40, 32} {
		verify.add(isPort(dport(policy.TCP), port), isSYN, isHeader(header), carryFrom(r.tagSets.tags, tagAt(header)), goTo(after(header)))
	}
	r.name.comment = r.comment()
}

// tagAt is what comes after so many bytes of the transport header: a tag, if anything.
func tagAt(header int) field {
	length := len(key.Tag{})
	return field{
		text: fmt.Sprintf("@th,%d,%d", 8*header, 8*length), bytes: length,
		load: payload(expr.PayloadBaseTransportHeader, uint32(header), uint32(length)),
	}
}

// isHeader compares the length of a TCP header.
func isHeader(length int) statement {
	return made{fmt.Sprintf("tcp doff %d", length/4), func(k *known) {
		k.needProto(policy.TCP)
		k.append(payload(expr.PayloadBaseTransportHeader, 12, 1)(register(0))...)
		k.append(
			&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 1, Mask: []byte{0xf0}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: []byte{byte(length/4) << 4}},
		)
	}}
}

// tagCode returns the code of a device and door, which none has that is taken. It follows
// from the two, and from the user's last moment: it stays the same when tags are loaded
// again, and no other device's tags ever have it, nor those that would last too long.
func tagCode(d key.Device, door key.Door, until time.Time, taken map[uint32]bool) uint32 {
	for n := 0; ; n++ {
		sum := sha256.Sum256(fmt.Append(nil, d, door, until.Unix(), n))
		if code := binary.LittleEndian.Uint32(sum[:]) & (bpf.Closing - 1); code > math.MaxUint16 && !taken[code] {
			return code
		}
	}
}
