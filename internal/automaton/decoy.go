package automaton

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"maps"
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

// A Decoy is a state that means nothing.
type Decoy struct {
	State
	From StateID // what the last input of its Path leads here from: Root, or another decoy
}

// Decoys returns states that mean nothing: from each one leads on what leads on from Root, and
// else nothing but loops, and edges to other decoys. A firewall that puts a source into one of
// them judges no packet otherwise. But it takes as much time for it as for a right first knock.
// So each has the Timeout and the Loops of a state that is reached by one. Where an attacker
// need not look for the second knock, as it is a ping, a service, or the first one again, a
// decoy has one as well.
//
// They follow from Secret. Without it there are none. Another policy leaves most of them as
// they are. Otherwise a comparison would show which ports stay: the knocks.
func (m *Machine) Decoys() []Decoy {
	if len(m.Secret) == 0 {
		return nil
	}
	firsts := map[policy.Protocol][]*State{}
	begins, ports := map[policy.Port]bool{}, map[policy.Port]bool{}
	guessed := map[StateID][]*Edge{} // by the state that they lead on from
	for i := range m.Edges {
		e := &m.Edges[i]
		if e.From != Root {
			if first := m.State(e.From).Path[0]; e.Door < 0 && (e.On.Protocol == policy.ICMP || m.hidden[e.On] || e.On == first) {
				guessed[e.From] = append(guessed[e.From], e)
			}
			continue
		}
		begins[e.On] = true
		if e.Door < 0 && e.On.Protocol != policy.ICMP {
			firsts[e.On.Protocol] = append(firsts[e.On.Protocol], m.State(e.To))
		}
	}
	// instead returns what means to a decoy at a port what on means behind a first knock.
	instead := func(on, first, port policy.Port) (policy.Port, bool) {
		if on == first {
			return port, true
		}
		return on, !begins[on] && on != port // a hidden service may be a first knock or a decoy, too
	}
	ids := map[StateID]bool{}
	for i := range m.States {
		ids[m.States[i].ID] = true
	}
	var all []Decoy
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
			if port.Number == 0 || begins[port] || ports[port] {
				continue
			}
			var these []Decoy
			entries, own := 0, map[StateID]bool{}
			var resemble func(like *State, from StateID, path []policy.Port)
			resemble = func(like *State, from StateID, path []policy.Port) {
				if entries > left {
					return // it is too large, and may be so a hundred times
				}
				// Another state to be like is another id. Otherwise, when a policy changes, only
				// who has knocked right would be in no state any more.
				id := idOf(sha256.Sum256(binary.BigEndian.AppendUint32(sum[:], uint32(like.ID))))
				d := Decoy{State: State{ID: StateID(id), Path: path, Timeout: like.Timeout}, From: from}
				for _, on := range like.Loops {
					if on, is := instead(on, like.Path[0], port); is {
						d.Loops = append(d.Loops, on)
					}
				}
				these, entries, own[d.ID] = append(these, d), entries+2+len(d.Loops), true
				for _, e := range guessed[like.ID] {
					if on, is := instead(e.On, like.Path[0], port); is {
						resemble(m.State(e.To), d.ID, append(slices.Clone(path), on))
					}
				}
			}
			resemble(resembled(firsts[protocol], binary.BigEndian.Uint64(sum[22:])), Root, []policy.Port{port})
			if entries > left {
				break
			}
			if len(own) < len(these) || slices.ContainsFunc(these, func(d Decoy) bool { return ids[d.ID] }) {
				continue
			}
			left -= entries
			ports[port] = true
			maps.Copy(ids, own)
			all = append(all, these...)
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
