package automaton

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"postern/internal/policy"
)

// drawn is how many decoys are drawn for each protocol that first knocks have. Those that are
// drawn twice are fewer.
const drawn = 1024

// mostEntries is how many entries of a firewall's tables all decoys may take, each one for
// itself, one for its Timeout, and one for each of its Loops. There are as many Loops as
// services behind a first knock. Root of a user namespace may send the kernel 420 KB at once
// (net.core.wmem_max), and 6,000 entries are some 280.
const mostEntries = 6000

// Decoys returns states that mean nothing: from each one leads on what leads on from Root, and
// nothing else. A firewall that puts a source into one of them, by its Path from Root, judges
// no packet otherwise. But it takes as much time for it as for a right first knock. So each
// has the Timeout and the Loops of a state that is reached by one.
//
// They follow from Secret. Without it there are none. Another policy leaves most of them as
// they are. Otherwise a comparison would show which ports stay: the knocks.
func (m *Machine) Decoys() []State {
	if len(m.Secret) == 0 {
		return nil
	}
	firsts := map[policy.Protocol][]*State{}
	begins, ports := map[policy.Port]bool{}, map[policy.Port]bool{}
	for i := range m.Edges {
		e := &m.Edges[i]
		if e.From != Root {
			continue
		}
		begins[e.On] = true
		if e.Door < 0 && e.On.Protocol != policy.ICMP {
			firsts[e.On.Protocol] = append(firsts[e.On.Protocol], m.State(e.To))
		}
	}
	ids := map[StateID]bool{}
	for i := range m.States {
		ids[m.States[i].ID] = true
	}
	var all []State
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		if len(firsts[protocol]) == 0 {
			continue
		}
		left := mostEntries / len(firsts)
		for i := range uint64(drawn) {
			h := hmac.New(sha256.New, m.Secret)
			h.Write(binary.BigEndian.AppendUint64([]byte{byte(protocol)}, i))
			sum := [sha256.Size]byte(h.Sum(nil))
			port := policy.Port{Protocol: protocol, Number: binary.BigEndian.Uint16(sum[30:])}
			id := StateID(idOf(sum))
			if port.Number == 0 || begins[port] || ports[port] || ids[id] {
				continue
			}
			ports[port], ids[id] = true, true
			like := resembled(firsts[protocol], binary.BigEndian.Uint64(sum[22:]))
			d := State{ID: id, Path: []policy.Port{port}, Timeout: like.Timeout}
			for _, on := range like.Loops {
				switch {
				case on == like.Path[0]:
					d.Loops = append(d.Loops, port)
				case !begins[on] && on != port: // a hidden service may be a first knock or a decoy, too
					d.Loops = append(d.Loops, on)
				}
			}
			if left -= 2 + len(d.Loops); left < 0 {
				break
			}
			all = append(all, d)
		}
	}
	return all
}

// resembled chooses a state at random. Another state beside them changes few choices, and only
// for itself (rendezvous hashing).
func resembled(all []*State, random uint64) *State {
	return slices.MaxFunc(all, func(a, b *State) int { return cmp.Compare(weight(a, random), weight(b, random)) })
}

func weight(s *State, random uint64) uint64 { return (random ^ uint64(s.ID)) * 0x9e3779b97f4a7c15 }
