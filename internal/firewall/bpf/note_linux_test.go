package bpf

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"postern/internal/key"
	"postern/internal/packet"
)

func init() { maps.Copy(earlyCases, noteCases) }

// after is the fate of what was counted after a first knock to a port.
func after(port uint16) fate { return fate(fmt.Sprintf("counted, after %d", port)) }

// told is the fate of what was not counted, when so many parts of the time of a first knock were
// left.
func told(port uint16, left int) fate {
	return fate(fmt.Sprintf("left, after %d, of which %d/8 are left", port, left))
}

// otherKnock is another port that may be a first knock.
const otherKnock = 1002

// noting has first knocks noted, which last for eight seconds.
func noting(e *Early) {
	silent(e)
	e.First.add(otherKnock)
	e.FirstLasts, e.Renews = 8*second, true
}

// quietly returns a scene where nothing is known of anybody.
func quietly(s *earlyScene) { s.pass(60 * second) }

// noteCases are what is expected of the program where first knocks are noted.
var noteCases = map[string]earlyCase{
	"first knocks are noted": {noting, func(s *earlyScene) {
		s.wantsAll("any may have progress at first", syn(sender4, knockPort), counted)
		for _, from := range []netip.Addr{sender4, sender6} {
			quietly(s)
			s.wantsAll("first knock", syn(from, knockPort), dropped)
			s.wants("next", from, after(knockPort), counted, overBudget)
			quietly(s)
			s.wants("nothing is left of it", from, dropped)
		}
	}},
	"of another source": {noting, func(s *earlyScene) {
		quietly(s)
		s.change(func(v *earlyValue) { v.Source4, v.Source6 = maskOf(128), maskOf(128) })
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("first knock", syn(sender6, otherKnock), dropped)
		s.wants("others", neighbour(sender4), dropped)
		s.wants("others", neighbour(sender6), dropped)
		s.wants("its own", sender4, after(knockPort))
		s.wants("its own", sender6, after(otherKnock))
	}},
	"how long first knocks count": {noting, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.pass(8*second - second/10)
		s.wants("in time", sender4, after(knockPort))
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.pass(8*second + second/10)
		s.wants("late", sender4, dropped)
	}},
	"a first knock again": {noting, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.pass(5 * second)
		s.wantsAll("again", syn(sender4, knockPort), dropped)
		s.pass(5 * second)
		s.wants("its time began again", sender4, after(knockPort))
	}},
	"a first knock again, which may be the second": {func(e *Early) { noting(e); e.Renews = false }, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped, after(knockPort), counted)
	}},
	"another first knock": {noting, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("another", syn(sender4, otherKnock), after(knockPort), counted)
	}},
	"what is not counted after a first knock": {noting, func(s *earlyScene) {
		all := knocks()
		all["a service"], all["a service over IPv6"] = syn(sender4, servicePort), syn(sender6, servicePort)
		for what, p := range all {
			quietly(s)
			s.wantsAll("first knock", syn(p.Src, knockPort), dropped)
			s.pass(3*second + second/100)
			s.wantsAll(what, p, told(knockPort, 5), left)
		}
		quietly(s)
		for left := NoteParts; left > 0; left-- {
			s.wantsAll("first knock", syn(sender4, knockPort), dropped)
			s.pass(time.Duration(NoteParts-left)*second + second/2)
			s.wantsAll("part", ping.packet(sender4, nil), told(knockPort, left))
		}
		s.wants("and nothing is left", sender4, dropped)
	}},
	"what may have progress after a first knock": {func(e *Early) { noting(e); e.EchoKnocks = true }, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("a ping", ping.packet(sender4, nil), told(knockPort, 8))
		s.wants("it is remembered", sender4, counted)
	}},
	"what is not judged after a first knock": {noting, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		elsewhere, segment, answer, there := syn(sender4, servicePort), syn(sender4, idlePort), ping.packet(sender4, nil), ping.packet(sender4, nil)
		elsewhere.Dst = server4.Next()
		segment.TCP.Flags = packet.ACK
		answer.ICMP.Type = 0
		there.Dst = server4.Next()
		for what, p := range map[string]packet.Packet{
			"to another host": elsewhere, "a segment": segment, "an answer": answer, "a ping to another host": there,
			"of another": syn(netip.MustParseAddr("198.51.100.7"), servicePort),
		} {
			s.wantsAll(what, p, left)
		}
		s.wants("it is still there", sender4, after(knockPort))
	}},
	"datagrams after a first knock": {func(e *Early) { noting(e); countUDP(e) }, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("counted", udp(sender4, idlePort), after(knockPort), counted)
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("not counted", udp(sender4, namedPort), told(knockPort, 8), left)
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("to the port of keys", udp(sender4, port), counted)
		s.wants("it is still there", sender4, after(knockPort))
		quietly(s)
		from := netip.AddrPortFrom(sender4, 50000)
		s.track(from, netip.AddrPortFrom(server4, idlePort), from)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("of a known flow", udp(sender4, idlePort), left)
		s.wants("it is still there", sender4, after(knockPort))
	}},
	"first knocks over the budget": {noting, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped, dropped, dropped) // renewed twice
		s.wants("over the budget", sender4, dropped)
		s.pass(second + second/100)
		s.wants("it was forgotten", sender4, dropped)
		s.wantsAll("none over the budget is noted", syn(sender4, knockPort), dropped)
		s.pass(second + second/100)
		s.wants("indeed", sender4, dropped)
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped, dropped, dropped, dropped)
		s.pass(second + second/100)
		s.wants("the last one was over the budget", sender4, dropped)
	}},
	"tokens after a first knock": {noting, func(s *earlyScene) {
		for _, from := range []netip.Addr{sender4, sender6} {
			quietly(s)
			s.wantsAll("first knock", syn(from, knockPort), dropped)
			token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
			s.do(s.t, func() error {
				v, err := s.program.run(frame(s.t, synData.packet(from, token[:])), 0)
				if v.priority != s.code(s.people[0].ID, doors[0]) {
					s.t.Error("the token is refused")
				}
				return err
			})
			s.wants("the rules know", from, counted)
		}
	}},
	"places of first knocks": {noting, func(s *earlyScene) {
		for from, other := range map[netip.Addr]int{sender4: 15, sender6: 0} {
			quietly(s)
			s.wantsAll("first knock", syn(from, knockPort), dropped)
			var own notePlace
			var live note
			for own, live = range s.notes() {
			}
			foreign, over := live, live
			foreign.Source[other] ^= 1
			over.What = 1<<notePort | (over.What-uint64(9*second/noteUnit))&(1<<notePort-1)
			for free := -1; free < choice; free++ {
				quietly(s)
				for i := range choice {
					s.putNote(notePlace{own.index, i}, foreign)
				}
				want := counted
				if free >= 0 {
					s.putNote(notePlace{own.index, free}, over)
					want = dropped
				}
				s.wantsAll(fmt.Sprintf("first knock, with place %d", free), syn(from, knockPort), want)
				if free < 0 {
					s.wants("the rules know", from, counted)
				}
				for at, n := range s.notes() {
					if (n == foreign) == (at.at == free) {
						s.t.Errorf("with place %d, %v has %+v", free, at, n)
					}
				}
				if free >= 0 {
					s.wants("it is there", from, after(knockPort))
				}
			}
			for i := range choice {
				s.putNote(notePlace{own.index, i}, note{})
			}
		}
	}},
	"first knocks in a crowd": {noting, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("a service", syn(sender4, servicePort), left)
		s.wantsAll("it may have progress", syn(sender4, knockPort), counted)
		for at := range s.recent() {
			for i := range choice {
				s.put(sourcePlace{at.index, i}, 1<<44-1) // nobody's, for a long time
			}
		}
		s.wantsAll("as others, too, may have", syn(sender4, knockPort), dropped)
		s.wants("it is noted", sender4, after(knockPort))
	}},
	"first knocks before a pause": {noting, func(s *earlyScene) {
		quietly(s)
		s.wantsAll("first knock", syn(sender4, knockPort), dropped)
		s.wantsAll("first knock", syn(sender6, knockPort), dropped)
		r := &Running{instances: []*instance{&s.program.instance}}
		resume, err := r.PauseEarly()
		if err != nil {
			s.t.Fatal(err)
		}
		s.wants("paused", sender4, told(knockPort, 8), left)
		s.wantsAll("none is noted", syn(sender4, knockPort), left, left)
		if err := resume(); err != nil {
			s.t.Fatal(err)
		}
		s.wants("resumed", sender6, after(knockPort))
	}},
}

// A note is one of notesValue, and a notePlace where it is.
type (
	note = struct {
		Source [16]byte
		What   uint64
	}
	notePlace struct {
		index uint32
		at    int
	}
)

// notes returns what is noted, or was.
func (s *earlyScene) notes() map[notePlace]note {
	s.t.Helper()
	all := map[notePlace]note{}
	m := s.program.maps[mapNoted]
	keys, values := make([]uint32, 1<<12), make([]notesValue, 1<<12)
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, err := m.BatchLookup(cursor, keys, values, nil)
		for i := range n {
			if values[i] == (notesValue{}) {
				continue
			}
			for at, here := range values[i] {
				if here.What != 0 {
					all[notePlace{keys[i], at}] = here
				}
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return all
		} else if err != nil {
			s.t.Fatal(err)
		}
	}
}

// putNote writes what is noted at a place.
func (s *earlyScene) putNote(p notePlace, n note) {
	s.t.Helper()
	m := s.program.maps[mapNoted]
	var all notesValue
	err := m.Lookup(p.index, &all)
	all[p.at] = n
	if err := errors.Join(err, m.Put(p.index, all)); err != nil {
		s.t.Fatal(err)
	}
}

// TestNoted: what is noted can be read, and outlives the program, with the codes that tell of it.
func TestNoted(t *testing.T) {
	s := newEarlyScene(t, nil, noting)
	quietly(s)
	s.wantsAll("first knock", syn(sender4, knockPort), dropped)
	s.wantsAll("first knock", syn(sender6, otherKnock), dropped)
	old := s.program
	var r *Running
	s.do(t, func() (err error) {
		r, err = Find()
		return err
	})
	r.instances = []*instance{&old.instance}
	var all []Noted
	s.do(t, func() error {
		return r.Noted(func(n Noted) bool {
			if n.Left < 8*second-second/10 || n.Left > 8*second+2*noteUnit {
				t.Errorf("%v are left", n.Left)
			}
			n.Left = 0
			all = append(all, n)
			return true
		})
	})
	four, six := netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("2001:db8::")
	if len(all) != 2 || all[0] != (Noted{four, knockPort, 0}) && all[1] != (Noted{four, knockPort, 0}) ||
		all[0] != (Noted{six, otherKnock, 0}) && all[1] != (Noted{six, otherKnock, 0}) {
		t.Errorf("%+v is noted", all)
	}

	s.do(t, func() (err error) {
		s.program, err = Load(s.c, s.people, r)
		return err
	})
	defer old.Close()
	codes, err := s.program.Codes()
	if err != nil || codes.Told(1) != s.codes.Told(1) || codes.Counted() == s.codes.Counted() {
		t.Errorf("%+v follow %+v (%v)", codes, s.codes, err)
	}
	s.codes = codes
	s.change(func(v *earlyValue) { v.Cost, v.Most = uint64(second), uint64(3*second) })
	s.wants("by the next program", sender4, after(knockPort))
	s.wantsAll("by the next program", syn(sender6, servicePort), told(otherKnock, 8))
}

// TestNotesAtOnce: of sources that share a place none is given another's first knock.
func TestNotesAtOnce(t *testing.T) {
	if given := notesAtOnce(newEarlyScene(t, nil, noting), 20_000); given > 0 {
		t.Errorf("%d sources were given another's first knock", given)
	}
}

// notesAtOnce has two sources that share their only place knock and go on at the same time, and
// returns how often one was given the other's knock.
func notesAtOnce(s *earlyScene, rounds int) int {
	quietly(s)
	s.change(func(v *earlyValue) { v.Source4, v.Cost, v.Kinds = maskOf(128), 0, v.Kinds&^kindRenews })
	places := uint64(s.program.maps[mapNoted].MaxEntries())
	var senders [2]netip.Addr
	var index uint64
	waiting := map[uint64]netip.Addr{}
	for n := uint32(1); ; n++ {
		from := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		b := from.As16()
		index = sipHash(key.SipKey{1, 2}, b[:], 0) % places
		if other, ok := waiting[index]; ok {
			senders = [2]netip.Addr{other, from}
			break
		}
		waiting[index] = from
	}
	now, err := monotonic()
	if err != nil {
		s.t.Fatal(err)
	}
	for at := range choice - 1 { // others'
		s.putNote(notePlace{uint32(index), at}, note{Source: [16]byte{15: byte(at + 1)}, What: 9<<notePort | uint64(now/noteUnit)})
	}
	for at := range choice { // so that none is known to have progress
		s.put(sourcePlace{uint32(index) % s.program.maps[mapRecent].MaxEntries(), at}, 1<<44-1)
	}
	ports := [2]uint16{knockPort, otherKnock}
	var frames [2][3][]byte
	for i, from := range senders {
		knock, idle := frame(s.t, syn(from, ports[i])), frame(s.t, syn(from, idlePort))
		frames[i] = [3][]byte{idle, idle, idle}
		frames[i][i] = knock
	}
	var wrong, right atomic.Int64
	atOnce(s.t, rounds, func(me, i int) error {
		for _, b := range frames[me] {
			v, err := s.program.run(b, 0)
			if err != nil {
				return err
			}
			switch v.priority {
			case s.codes.Noted() + uint32(ports[1-me]):
				wrong.Add(1)
			case s.codes.Noted() + uint32(ports[me]):
				right.Add(1)
			}
		}
		return nil
	})
	if right.Load() == 0 {
		s.t.Error("nothing was noted")
	}
	return int(wrong.Load())
}

// TestNotesOfOthers: where none is noted the map takes no memory.
func TestNotesOfOthers(t *testing.T) {
	s := newEarlyScene(t, nil, silent)
	if n := s.program.maps[mapNoted].MaxEntries(); n != 1 {
		t.Errorf("the map has %d places", n)
	}
	s.pass(60 * second)
	s.wantsAll("a first knock", syn(sender4, knockPort), counted)
}
