package automaton

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"postern/internal/policy"
)

// draws is how many decoys are drawn for each protocol that first knocks have. Those that are
// drawn twice are fewer.
const draws = 1024

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
	return m.newDecoyDraw().all()
}

// A DecoyShortage says that few ports of a protocol have decoys.
type DecoyShortage struct {
	Protocol policy.Protocol
	Ports    int
	First    policy.Port // the first knock behind which there is most, which decoys must be like
}

// DecoyShortages returns the protocols of first knocks that have decoys at fewer ports than
// least, with any secret: another one gives a few more or less.
func (m *Machine) DecoyShortages(least int) []DecoyShortage {
	sample := *m
	sample.Secret = []byte("any")
	d := sample.newDecoyDraw()
	ports := map[policy.Protocol]int{}
	for _, decoy := range d.all() {
		if decoy.From == Root {
			ports[decoy.Path[0].Protocol]++
		}
	}
	var short []DecoyShortage
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		firsts := d.firsts[protocol]
		if len(firsts) == 0 || ports[protocol] >= least {
			continue
		}
		largest := slices.MaxFunc(firsts, func(a, b *State) int { return cmp.Compare(d.entries(a), d.entries(b)) })
		short = append(short, DecoyShortage{protocol, ports[protocol], largest.Path[0]})
	}
	return short
}

// entries returns how many entries a decoy takes that is like a state, with those behind it.
func (d *decoyDraw) entries(like *State) int {
	g := decoyGroup{decoyDraw: d, room: mostEntries}
	g.add(like, Root, nil)
	return mostEntries - g.room
}

// A decoyDraw is what is known while decoys are drawn.
type decoyDraw struct {
	*Machine
	firsts  map[policy.Protocol][]*State // that first knocks lead to
	begins  map[policy.Port]bool         // of first knocks
	guessed map[StateID][]*Edge          // on second knocks that nobody need look for; by From
	ids     map[StateID]bool             // of states and decoys
	ports   map[policy.Port]bool         // of decoys
	drawn   []Decoy
}

func (m *Machine) newDecoyDraw() *decoyDraw {
	d := &decoyDraw{
		Machine: m, firsts: map[policy.Protocol][]*State{}, begins: map[policy.Port]bool{},
		guessed: map[StateID][]*Edge{}, ids: map[StateID]bool{}, ports: map[policy.Port]bool{},
	}
	for i := range m.Edges {
		switch e := &m.Edges[i]; {
		case e.From == Root:
			d.begins[e.On] = true
			if e.Door < 0 && e.On.Protocol != policy.ICMP {
				d.firsts[e.On.Protocol] = append(d.firsts[e.On.Protocol], m.State(e.To))
			}
		case e.Door < 0 && (e.On.Protocol == policy.ICMP || m.hidden[e.On] || e.On == m.State(e.From).Path[0]):
			d.guessed[e.From] = append(d.guessed[e.From], e)
		}
	}
	for i := range m.States {
		d.ids[m.States[i].ID] = true
	}
	return d
}

// all draws all decoys.
func (d *decoyDraw) all() []Decoy {
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		if len(d.firsts[protocol]) > 0 {
			d.draw(protocol, mostEntries/len(d.firsts))
		}
	}
	return d.drawn
}

// draw draws the decoys of a protocol, as long as there is room for their entries.
func (d *decoyDraw) draw(protocol policy.Protocol, room int) {
	for i := range uint64(draws) {
		h := hmac.New(sha256.New, d.Secret)
		h.Write(binary.BigEndian.AppendUint64([]byte{byte(protocol)}, i))
		g := decoyGroup{decoyDraw: d, sum: [sha256.Size]byte(h.Sum(nil)), room: room}
		g.port = policy.Port{Protocol: protocol, Number: binary.BigEndian.Uint16(g.sum[30:])}
		if g.port.Number == 0 || d.begins[g.port] || d.ports[g.port] {
			continue
		}
		g.add(resembled(d.firsts[protocol], binary.BigEndian.Uint64(g.sum[22:])), Root, []policy.Port{g.port})
		if g.room < 0 {
			return
		}
		if g.distinct() {
			room = g.room
			d.take(&g)
		}
	}
}

func (d *decoyDraw) take(g *decoyGroup) {
	d.ports[g.port] = true
	for i := range g.decoys {
		d.ids[g.decoys[i].ID] = true
	}
	d.drawn = append(d.drawn, g.decoys...)
}

// A decoyGroup is the decoy at a port, and those behind it.
type decoyGroup struct {
	*decoyDraw
	port   policy.Port
	sum    [sha256.Size]byte // at random
	room   int               // for so many more entries; less than 0: there is none for the group
	decoys []Decoy
}

// add adds a decoy that is like a state, and those that lead on from it.
func (g *decoyGroup) add(like *State, from StateID, path []policy.Port) {
	if g.room < 0 {
		return // it may be too large a hundred times
	}
	// Another state to be like is another id. Otherwise, when a policy changes, only who has
	// knocked right would be in no state any more.
	id := idOf(sha256.Sum256(binary.BigEndian.AppendUint32(g.sum[:], uint32(like.ID))))
	d := Decoy{State: State{ID: StateID(id), Path: path, Timeout: like.Timeout}, From: from}
	for _, on := range like.Loops {
		if on, is := g.instead(on, like); is {
			d.Loops = append(d.Loops, on)
		}
	}
	g.decoys = append(g.decoys, d)
	g.room -= 2 + len(d.Loops)
	for _, e := range g.guessed[like.ID] {
		if on, is := g.instead(e.On, like); is {
			g.add(g.State(e.To), d.ID, append(slices.Clone(path), on))
		}
	}
}

// instead returns what means to a decoy what an input means to the state that it is like. There
// may be no such input: a hidden service may be a first knock, or the decoy's port.
func (g *decoyGroup) instead(on policy.Port, like *State) (policy.Port, bool) {
	if on == like.Path[0] {
		return g.port, true
	}
	return on, !g.begins[on] && on != g.port
}

// distinct reports whether no decoy has the id of another one, or of a state.
func (g *decoyGroup) distinct() bool {
	own := map[StateID]bool{}
	for i := range g.decoys {
		id := g.decoys[i].ID
		if own[id] || g.ids[id] {
			return false
		}
		own[id] = true
	}
	return true
}

// resembled chooses a state at random. Another state beside them changes few choices, and only
// for itself (rendezvous hashing).
func resembled(all []*State, random uint64) *State {
	return slices.MaxFunc(all, func(a, b *State) int { return cmp.Compare(weight(a, random), weight(b, random)) })
}

func weight(s *State, random uint64) uint64 { return (random ^ uint64(s.ID)) * 0x9e3779b97f4a7c15 }
