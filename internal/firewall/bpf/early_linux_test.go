package bpf

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

const (
	idlePort    = 7
	servicePort = 22
)

// An earlyScene is the program on a host with the addresses of the server.
type earlyScene struct {
	*scene
	host  *lab.Host
	early *Early
	codes Codes
}

// second is the test's: so long that it does not matter how long a test takes.
const second = 100 * time.Second

// earlyConfig is of sources that may send three SYNs, and then one in each of these
// seconds. What they have done is remembered for longer than it takes to be whole again, but
// where a test changes that.
func earlyConfig() *Early {
	e := &Early{
		Interfaces: []string{"lo"}, Source: policy.Source{IPv4: 24, IPv6: 64},
		Budget: automaton.Budget{Rate: 1, Burst: 3}, Patience: 9 * second,
	}
	e.NamedTCP.add(servicePort)
	e.First.fill()
	return e
}

func newEarlyScene(t testing.TB, spec *ebpf.CollectionSpec, change func(*Early)) *earlyScene {
	t.Helper()
	needBPF(t)
	l := lab.New()
	t.Cleanup(func() { l.Close() })
	s := &earlyScene{host: l.Host("h"), early: earlyConfig()}
	if change != nil {
		change(s.early)
	}
	s.do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, a := range []netip.Addr{server4, server6} {
			err = errors.Join(err, netlink.AddrAdd(lo, &netlink.Addr{
				Flags: unix.IFA_F_NODAD, IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
			}))
		}
		return err
	})
	s.do(t, func() error {
		s.scene = newScene(t, spec, func(c *Config) { c.Early = s.early })
		return nil
	})
	codes, err := s.program.Codes()
	if err != nil {
		t.Fatal(err)
	}
	s.codes = codes
	s.change(func(v *earlyValue) {
		v.Cost, v.Most = uint64(second), uint64(3*second)
		v.Seed = key.SipKey{1, 2} // by which no two senders share a budget
	})
	return s
}

func (s *earlyScene) do(t testing.TB, f func() error) {
	t.Helper()
	if err := s.host.Do(f); err != nil {
		t.Fatal(err)
	}
}

// pass lets time pass for what is counted early.
func (s *earlyScene) pass(by time.Duration) {
	s.t.Helper()
	s.change(func(v *earlyValue) { v.Full -= min(v.Full, uint64(by)) })
	budgets, err := readMap[uint32, uint64](s.program.maps[mapAttempts])
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range budgets {
		if v == 0 {
			continue
		}
		if err := s.program.maps[mapAttempts].Put(k, v-min(v, uint64(by))); err != nil {
			s.t.Fatal(err)
		}
	}
	for at, v := range s.recent() {
		s.put(at, v-min(v&(1<<44-1), uint64(by)>>17))
	}
	for at, n := range s.notes() {
		const time = 1<<notePort - 1
		n.What = n.What&^time | (n.What-uint64(by/noteUnit))&time
		s.putNote(at, n)
	}
}

// change changes what the program reads.
func (s *earlyScene) change(f func(*earlyValue)) {
	s.t.Helper()
	var v earlyValue
	err := s.program.maps[mapEarly].Lookup(uint32(0), &v)
	f(&v)
	if err := errors.Join(err, s.program.maps[mapEarly].Put(uint32(0), v)); err != nil {
		s.t.Fatal(err)
	}
}

// A fate is what the program does with a packet.
type fate string

const (
	left       fate = "left alone" // to the rules
	counted    fate = "counted"
	overBudget fate = "over"
	dropped    fate = "dropped"
)

func (s *earlyScene) fate(p packet.Packet, change func([]byte)) fate {
	s.t.Helper()
	b := frame(s.t, p)
	if change != nil {
		change(b)
	}
	var v verdict
	s.do(s.t, func() (err error) {
		v, err = s.program.run(b, 0)
		return err
	})
	switch v {
	case verdict{next, 0}:
		return left
	case verdict{next, s.codes.Counted()}:
		return counted
	case verdict{next, s.codes.Over()}:
		return overBudget
	case verdict{2, 0}: // TCX_DROP
		return dropped
	}
	code := v.priority & CodeBits
	if port := v.priority &^ CodeBits; v.answer == next && port != 0 {
		if code == s.codes.Noted() {
			return after(uint16(port))
		}
		for left := 1; left <= NoteParts; left++ {
			if code == s.codes.Told(left) {
				return told(uint16(port), left)
			}
		}
	}
	s.t.Errorf("the program answers %+v", v)
	return ""
}

// syn returns a SYN to a port of the server.
func syn(from netip.Addr, port uint16) packet.Packet {
	p := synData.packet(from, nil)
	p.TCP.DstPort = port
	return p
}

// want sends SYNs to the idle port.
func (s *earlyScene) wants(what string, from netip.Addr, all ...fate) {
	s.t.Helper()
	for i, want := range all {
		if got := s.fate(syn(from, idlePort), nil); got != want {
			s.t.Errorf("%s: SYN %d from %v is %s, want %s", what, i+1, from, got, want)
		}
	}
}

// settled returns a scene where all is known, and the senders are over their budgets and
// have no progress.
func settled(s *earlyScene) {
	s.pass(s.early.Patience + second)
	for _, from := range []netip.Addr{sender4, sender6} {
		s.wants("begin", from, counted, counted, counted, overBudget)
	}
	s.pass(5 * time.Millisecond)
	for _, from := range []netip.Addr{sender4, sender6} {
		s.wants("settled", from, dropped)
	}
}

// knockPort is the only one that may be a first knock where nothing answers.
const knockPort = 1001

func silent(e *Early) {
	e.First = Ports{}
	e.First.add(knockPort)
}

type earlyCase struct {
	change func(*Early)
	run    func(s *earlyScene)
}

// earlyCases are what is expected of the program, by names. Those of datagrams are in
// udpCases.
var earlyCases = map[string]earlyCase{
	"full at first": {nil, func(s *earlyScene) {
		s.wants("loaded", sender4, counted, counted, counted, overBudget, overBudget)
		s.pass(s.early.Patience - second/10)
		s.wants("later", sender4, counted, counted, counted, overBudget)
		s.pass(5 * time.Millisecond)
		s.wants("still", sender4, overBudget)
		s.pass(second / 5)
		s.wants("of what was counted", sender4, overBudget)
		s.pass(5 * time.Millisecond)
		s.wants("no more", sender4, dropped)
	}},
	"budget": {nil, func(s *earlyScene) {
		settled(s)
		for _, from := range []netip.Addr{sender4, sender6} {
			s.wants("nothing left", from, dropped, dropped)
		}
		s.pass(second + second/100)
		for _, from := range []netip.Addr{sender4, sender6} {
			s.wants("one left", from, counted, overBudget)
		}
		s.pass(10 * second)
		settled(s)
	}},
	"where nothing answers": {silent, func(s *earlyScene) {
		s.wants("full at first", sender4, counted, counted)
		s.pass(60 * second)
		for _, from := range []netip.Addr{sender4, sender6} {
			knock := syn(from, knockPort)
			s.wants("no knock", from, dropped)
			s.wantsAll("knock", knock, counted)
			s.wants("progress", from, counted, overBudget)
			s.pass(5 * time.Millisecond)
			s.wants("forgotten", from, dropped)
			s.wantsAll("knock over the budget", knock, dropped)
			s.pass(3 * second)
			s.wants("no knock", from, dropped)
			s.wantsAll("knock", knock, counted, counted, overBudget)
			s.pass(second + second/100)
			s.wants("of those over the budget the first is forgotten", from, dropped)
			s.pass(2*second + second/100)
			s.wantsAll("knock", knock, counted)
			s.pass(4 * second)
			s.wants("progress goes on", from, counted)
			s.pass(8 * second)
			s.wants("and is noted anew", from, counted)
			s.pass(s.early.Patience + second)
			s.wants("long after", from, dropped, dropped, dropped, dropped)
			s.wantsAll("these took the budget", knock, dropped)
			s.pass(60 * second)
		}
		s.wantsAll("a service", syn(sender4, servicePort), left)
		s.wants("it may have made progress", sender4, counted)
	}},
	"patience": {func(e *Early) { e.Patience = second / 3 }, func(s *earlyScene) {
		s.pass(second)
		short, long := sender4, netip.MustParseAddr("198.51.100.9")
		s.wants("begin", short, counted, counted, counted)
		s.pass(second / 4)
		s.wants("soon", short, overBudget)
		s.pass(second)
		s.wants("begin", long, counted, counted, counted)
		s.pass(second / 2)
		s.wants("late", long, dropped)
	}},
	"sources": {nil, func(s *earlyScene) {
		s.pass(60 * second)
		// The same source, and the same budget.
		s.wants("first", sender4, counted, counted, counted)
		s.wants("neighbour", neighbour(sender4), overBudget)
		s.pass(5 * time.Millisecond)
		s.wants("again", sender4, dropped)
		// Another source, and the same budget.
		other := netip.MustParseAddr("2001:db8:0:1::7")
		s.wants("first", sender6, counted, counted, counted)
		s.wants("site", other, dropped)
		s.wants("again", sender6, overBudget)
		s.wants("others", netip.MustParseAddr("2001:db8:1::7"), counted)
	}},
	"shared places": {nil, func(s *earlyScene) {
		settled(s)
		s.pass(second)
		before := s.recent()
		s.wants("one", sender4, counted)
		own := s.changed(before)
		// As if all of its places were others'.
		other := s.recent()[own] ^ 1<<50
		for i := range choice {
			s.put(sourcePlace{own.index, i}, other)
		}
		s.pass(second)
		s.wants("another", sender4, counted, overBudget)
		s.pass(5 * time.Millisecond)
		s.wants("not forgotten", sender4, overBudget)
		nobodys := 0
		for i := range choice {
			if s.recent()[sourcePlace{own.index, i}]>>44 == 0 {
				nobodys++
			}
		}
		if nobodys != 1 {
			s.t.Errorf("%d places are nobody's", nobodys)
		}
	}},
	"a free place": {nil, func(s *earlyScene) {
		settled(s)
		s.pass(second)
		before := s.recent()
		s.wants("one", sender4, counted)
		own := s.changed(before)
		entry := s.recent()[own]
		for free := range choice {
			// As if all of its places but one were others'.
			for i := range choice {
				s.put(sourcePlace{own.index, i}, entry^1<<50)
			}
			s.put(sourcePlace{own.index, free}, 0)
			s.pass(second)
			s.wants("in the free place", sender4, counted, overBudget)
			s.pass(5 * time.Millisecond)
			s.wants("forgotten", sender4, dropped)
			for i := range choice {
				want := entry >> 44
				if i != free {
					want ^= 1 << (50 - 44)
				}
				if got := s.recent()[sourcePlace{own.index, i}] >> 44; got != want {
					s.t.Errorf("of %d places %d was free; %d has %x, want %x", choice, free, i, got, want)
				}
			}
		}
	}},
	"the same place": {nil, func(s *earlyScene) {
		settled(s)
		s.pass(second)
		before := s.recent()
		s.wants("one", sender4, counted)
		own := s.changed(before)
		entry := s.recent()[own]
		for at := range choice {
			for i := range choice {
				s.put(sourcePlace{own.index, i}, 0)
			}
			s.put(sourcePlace{own.index, at}, entry)
			s.pass(second)
			s.wants("again, beside free places", sender4, counted)
			for i := range choice {
				if got := s.recent()[sourcePlace{own.index, i}]; (got != 0) != (i == at) {
					s.t.Errorf("the source is at %d; %d has %x", at, i, got)
				}
			}
		}
	}},
	"fast senders": {nil, func(s *earlyScene) {
		settled(s)
		recent := s.program.maps[mapRecent]
		known := s.recent()
		s.fate(syn(sender4, servicePort), nil)
		at := s.changed(known)
		for range 200 {
			s.fate(syn(sender4, servicePort), nil) // it may have made progress
			s.wants("first", sender4, overBudget)
			var before, after [choice]uint64
			err := recent.Lookup(at.index, &before)
			for began := time.Now(); time.Since(began) < 100*time.Microsecond; {
			}
			s.fate(syn(sender4, idlePort), nil)
			if err := errors.Join(err, recent.Lookup(at.index, &after)); err != nil || after != before {
				s.t.Errorf("it is remembered anew: %x, then %x (%v)", before, after, err)
				return
			}
		}
	}},
	"ports that are not counted": {nil, func(s *earlyScene) {
		settled(s)
		for _, from := range []netip.Addr{sender4, sender6} {
			for range 5 {
				if got := s.fate(syn(from, servicePort), nil); got != left {
					s.t.Errorf("a SYN to a service is %s", got)
				}
			}
			s.wants("after it", from, overBudget)
		}
	}},
	"what may be a knock": {func(e *Early) { e.UDPKnocks, e.EchoKnocks = true, true }, func(s *earlyScene) {
		settled(s)
		for what, p := range knocks() {
			if got := s.fate(p, nil); got != left {
				s.t.Errorf("%s is %s", what, got)
			}
			s.wants(what, p.Src, overBudget)
			s.pass(5 * time.Millisecond)
			s.wants("settled", p.Src, dropped)
		}
	}},
	"what is no knock": {nil, func(s *earlyScene) {
		settled(s)
		for what, p := range knocks() {
			if p.UDP == nil && p.ICMP == nil || len(p.V6.Extensions) > 0 {
				continue
			}
			s.fate(p, nil)
			s.wants(what, p.Src, dropped)
		}
	}},
	"what is not for this host": {nil, func(s *earlyScene) {
		elsewhere := syn(sender4, idlePort)
		elsewhere.Dst = server4.Next()
		mapped := func(b []byte) {
			to := server4.As16()
			copy(b[ethernet+24:], to[:])
		}
		bare := syn(sender4, idlePort)
		bare.TCP.Flags = packet.ACK
		both := syn(sender4, idlePort)
		both.TCP.Flags = packet.SYN | packet.ACK
		for range 4 {
			for what, got := range map[string]fate{
				"IPv6 to IPv4":     s.fate(syn(sender6, idlePort), mapped),
				"another address":  s.fate(elsewhere, nil),
				"another frame":    s.fate(syn(sender4, idlePort), func(b []byte) { b[0] = 2 }),
				"a broadcast":      s.fate(syn(sender4, idlePort), func(b []byte) { copy(b, []byte{255, 255, 255, 255, 255, 255}) }),
				"an ACK":           s.fate(bare, nil),
				"a SYN-ACK":        s.fate(both, nil),
				"of no IP version": s.fate(syn(sender4, idlePort), func(b []byte) { b[12], b[13] = 8, 6 }),
			} {
				if got != left {
					s.t.Errorf("%s is %s", what, got)
				}
			}
		}
		s.pass(60 * second)
		settled(s) // nothing of it was counted
		if err := s.program.maps[mapInterfaces].Delete(uint32(1)); err != nil {
			s.t.Fatal(err)
		}
		s.wants("an interface that is not counted", sender4, left)
	}},
	"addresses that are gone": {nil, func(s *earlyScene) {
		settled(s)
		gone := netip.MustParseAddr("203.0.113.7")
		p := syn(sender4, idlePort)
		p.Dst = gone
		if err := s.program.maps[mapAddresses].Put(gone.As16(), uint8(1)); err != nil {
			s.t.Fatal(err)
		}
		if got := s.fate(p, nil); got != dropped {
			s.t.Errorf("on a host that does not forward it is %s", got)
		}
		s.host.Sysctl("net.ipv4.ip_forward", "1")
		s.do(s.t, func() error {
			veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}
			err := errors.Join(netlink.LinkAdd(veth), netlink.LinkSetUp(veth))
			return errors.Join(err, netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Scope: netlink.SCOPE_LINK,
				Dst: &net.IPNet{IP: gone.AsSlice(), Mask: net.CIDRMask(32, 32)}}))
		})
		s.wantsAll("sent on", p, left, left)
		s.pass(4 * second)
		s.wantsAll("sent on, within the budget", p, left, left, left, left)
		s.wants("nothing of it was counted", sender4, counted, counted, counted, overBudget)
	}},
	"trusted": {func(e *Early) {
		e.Trusted = []Trusted{{From: netip.MustParsePrefix("192.0.2.0/29")}, {From: netip.MustParsePrefix("2001:db8::/64"), Interface: "lo"},
			{From: netip.MustParsePrefix("198.51.100.0/24"), Interface: "other"}, {Interface: "other"}}
	}, func(s *earlyScene) {
		for _, from := range []netip.Addr{sender4, sender6} {
			s.wants("trusted", from, left, left, left, left)
		}
		for _, from := range []string{"192.0.2.8", "2001:db8:0:1::7", "198.51.100.7"} {
			s.wants("not trusted", netip.MustParseAddr(from), counted)
		}
	}},
	"again": {nil, func(s *earlyScene) {
		s.pass(60 * second)
		for _, code := range []uint32{s.codes.Counted(), s.codes.Over(), s.codes.Noted() + knockPort, s.codes.Told(1) + knockPort, s.codes.Told(NoteParts) + 65535} {
			for range 10 {
				s.do(s.t, func() error {
					v, err := s.program.run(frame(s.t, syn(sender4, idlePort)), code)
					if v != (verdict{next, code}) {
						s.t.Errorf("a packet that was counted is answered %+v", v)
					}
					return err
				})
			}
		}
		settled(s)
	}},
	"tokens": {nil, func(s *earlyScene) {
		settled(s)
		for _, from := range []netip.Addr{sender4, sender6} {
			token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
			s.do(s.t, func() error {
				v, err := s.program.run(frame(s.t, datagram.packet(from, token[:])), 0)
				if v.priority != s.code(s.people[0].ID, doors[0]) {
					s.t.Error("the token is refused")
				}
				return err
			})
			s.wants("a token", from, overBudget)
		}
	}},
	"dropped": {nil, func(s *earlyScene) {
		settled(s)
		r := &Running{instances: []*instance{&s.program.instance}}
		packets, bytes, err := r.Dropped()
		s.wants("more", sender4, dropped, dropped)
		s.wants("more", sender6, dropped)
		p, b, err2 := r.Dropped()
		const four, six = 20 + 24, 40 + 24 // with an option
		if err := errors.Join(err, err2); err != nil || p-packets != 3 || b-bytes != 2*four+six {
			s.t.Errorf("%d packets with %d bytes were dropped: %v", p-packets, b-bytes, err)
		}
	}},
	"paused": {nil, func(s *earlyScene) {
		settled(s)
		r := &Running{instances: []*instance{&s.program.instance}}
		resume, err := r.PauseEarly()
		if err != nil {
			s.t.Fatal(err)
		}
		s.wants("paused", sender4, left, left, left, left, left)
		if err := resume(); err != nil {
			s.t.Fatal(err)
		}
		s.wants("resumed", sender4, overBudget) // whatever it did meanwhile
		s.pass(s.early.Patience)
		settled(s)
	}},
}

// choice is how many places each source has to choose from.
const choice = 4

// A sourcePlace is where a source is remembered.
type sourcePlace struct {
	index uint32 // of the map
	at    int
}

// recent returns what is remembered at all places.
func (s *earlyScene) recent() map[sourcePlace]uint64 {
	s.t.Helper()
	all, err := readMap[uint32, [choice]uint64](s.program.maps[mapRecent])
	if err != nil {
		s.t.Fatal(err)
	}
	recent := map[sourcePlace]uint64{}
	for index, entries := range all {
		for at, entry := range entries {
			if entry != 0 {
				recent[sourcePlace{index, at}] = entry
			}
		}
	}
	return recent
}

// put writes what is remembered at a place.
func (s *earlyScene) put(p sourcePlace, entry uint64) {
	s.t.Helper()
	var entries [choice]uint64
	err := s.program.maps[mapRecent].Lookup(p.index, &entries)
	entries[p.at] = entry
	if err := errors.Join(err, s.program.maps[mapRecent].Put(p.index, entries)); err != nil {
		s.t.Fatal(err)
	}
}

// changed returns the place of a source that has been remembered since.
func (s *earlyScene) changed(since map[sourcePlace]uint64) sourcePlace {
	s.t.Helper()
	for p, entry := range s.recent() {
		if since[p] != entry {
			return p
		}
	}
	s.t.Fatal("nothing is remembered")
	return sourcePlace{}
}

// knocks are packets that may be knocks, but SYNs in their plainest form, by what they are.
func knocks() map[string]packet.Packet {
	options, fragment, extended, atomic := syn(sender4, idlePort), syn(sender4, idlePort), syn(sender6, idlePort), datagram.packet(sender6, nil)
	options.V4.Options = []byte{1, 1, 1, 0}
	fragment.V4.Flags = packet.MoreFragments
	extended.V6.Extensions = []packet.Extension{packet.HopByHop()}
	atomic.V6.Extensions = []packet.Extension{packet.FragmentHeader(7, 0, 0)}
	return map[string]packet.Packet{
		"options": options, "a fragment": fragment, "an extension": extended, "an atomic fragment": atomic,
		"UDP": datagram.packet(sender4, []byte("x")), "UDP over IPv6": datagram.packet(sender6, nil),
		"a ping": ping.packet(sender4, nil), "a ping over IPv6": ping.packet(sender6, []byte("x")),
	}
}

func TestEarly(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(earlyCases)) {
		t.Run(name, func(t *testing.T) { earlyCases[name].run(newEarlyScene(t, nil, earlyCases[name].change)) })
	}
}

// TestEarlyCrowd: thousands of others beside them do not keep sources from being dropped.
func TestEarlyCrowd(t *testing.T) {
	if kept := beside(newEarlyScene(t, nil, remembersUDP), 5000, 1000); kept > 0 {
		t.Errorf("%d of 1000 sources are not dropped", kept)
	}
}

// remembersUDP has the sender of any datagram remembered, and none counted.
func remembersUDP(e *Early) { e.UDPKnocks = true }

// beside has many sources remembered twice, and some of them forgotten. It returns how many of
// these are not dropped.
func beside(s *earlyScene, others, some int) (kept int) {
	s.change(func(v *earlyValue) { v.Source4, v.Full, v.Most = maskOf(128), 0, 0 })
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for range 2 {
		for i := range others + some {
			if _, err := s.program.run(frame(s.t, datagram.packet(from(i), nil)), 0); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for i := range some {
		s.fate(syn(from(i), idlePort), nil)
	}
	time.Sleep(time.Millisecond) // until they are forgotten
	for i := range some {
		if s.fate(syn(from(i), idlePort), nil) != dropped {
			kept++
		}
	}
	return kept
}

// TestEarlyBelow: what comes by a port of a bridge comes by the bridge, for the rules. So
// where it matters to them by which interface, only the bridge counts, and what is on top
// of others.
func TestEarlyBelow(t *testing.T) {
	needBPF(t)
	l := lab.New()
	t.Cleanup(func() { l.Close() })
	h := l.Host("h")
	indexes := map[string]uint32{}
	if err := h.Do(func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		ports := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port"}, PeerName: "alone"}
		parent := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "parent"}, PeerName: "other"}
		if err := errors.Join(netlink.LinkAdd(bridge), netlink.LinkAdd(ports), netlink.LinkAdd(parent), netlink.LinkSetMaster(ports, bridge)); err != nil {
			return err
		}
		if err := netlink.LinkAdd(&netlink.Macvlan{
			LinkAttrs: netlink.LinkAttrs{Name: "upper", ParentIndex: parent.Index}, Mode: netlink.MACVLAN_MODE_PASSTHRU,
		}); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		all, err := net.Interfaces()
		for _, i := range all {
			indexes[i.Name] = uint32(i.Index)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Early)
		below  bool // interfaces are counted that are below others
	}{
		"all alike": {func(e *Early) { e.Interfaces = nil }, true},
		"senders are trusted": {func(e *Early) {
			e.Interfaces, e.Trusted = nil, []Trusted{{From: netip.MustParsePrefix("192.0.2.0/24")}}
		}, true},
		"one is trusted":      {func(e *Early) { e.Interfaces, e.Trusted = nil, []Trusted{{Interface: "br0"}} }, false},
		"one is not governed": {func(e *Early) { e.Interfaces = []string{"br0", "port", "alone", "parent", "upper"} }, false},
	} {
		e := earlyConfig()
		c.change(e)
		if err := h.Do(func() error {
			p, err := Load(Config{Early: e}, nil, nil)
			if err != nil {
				return err
			}
			defer p.Close()
			counted, err := readMap[uint32, uint8](p.maps[mapInterfaces])
			for _, i := range []string{"br0", "alone", "port", "upper", "parent"} {
				if indexes[i] == 0 {
					continue // this kernel has no macvlan
				}
				want := c.below || i != "port" && (i != "parent" || indexes["upper"] == 0)
				if (counted[indexes[i]] == 1) != want {
					t.Errorf("%s: %s is counted: %v, want %v", name, i, !want, want)
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEarlyMissed: the rules may be loaded between a program's loading and its attaching, which
// takes seconds if they are many. What was sent meanwhile it has not seen, so from then on it
// takes any source for one that may have progress.
func TestEarlyMissed(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		s := newSite(t)
		s.c.Early = earlyConfig()
		p := s.load(nil)
		full := func() (v earlyValue) {
			if err := p.maps[mapEarly].Lookup(uint32(0), &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
		v := full()
		v.Full = 0 // long ago
		if err := p.maps[mapEarly].Put(uint32(0), v); err != nil {
			t.Fatal(err)
		}
		for _, where := range [][]string{{s.links[0].Name}, {s.links[0].Name, s.links[1].Name}} {
			s.attach(p, where...)
			now, err := monotonic()
			if err != nil {
				t.Fatal(err)
			}
			// By then attaching is over, so that no more than its patience is left.
			if after := full(); after.Full <= v.Full || after.Full > uint64(now)+v.Patience {
				t.Errorf("attached to %v at %v it takes nobody for known until %v", where, now, time.Duration(after.Full))
			}
			v = full()
		}
	})
}

// TestEarlyLeftOut: where others' filters or rules may decide about a packet at an interface
// before the rules do, nothing is counted at those by which it comes there.
func TestEarlyLeftOut(t *testing.T) {
	needBPF(t)
	for name, others := range map[string]func(s *site) error{
		"nobody": func(*site) error { return nil },
		"a filter": func(s *site) error {
			if err := netlink.QdiscAdd(qdisc(s.index("br0"))); err != nil {
				return err
			}
			return netlink.FilterAdd(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{
					LinkIndex: s.index("br0"), Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL,
				},
				Fd: foreign(t, next).FD(), Name: "theirs", DirectAction: true,
			})
		},
		"rules": func(s *site) error {
			s.nft("table netdev others {\nchain c { type filter hook ingress device br0 priority 0; }\n}")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			port := s.links[0].Name
			s.lab.Bridge(s.server, "br0", s.links[0])
			s.do(func() error { return others(s) })
			s.c.Early = earlyConfig()
			s.c.Early.Interfaces = nil
			s.do(func() error {
				p, err := Load(s.c, nil, nil)
				if err != nil {
					return err
				}
				defer p.Close()
				counted, err := readMap[uint32, uint8](p.maps[mapInterfaces])
				for at, want := range map[string]bool{"br0": name == "nobody", port: name == "nobody", s.links[1].Name: true} {
					if got := counted[uint32(s.index(at))] == 1; got != want {
						t.Errorf("%s is counted: %v, want %v", at, got, want)
					}
				}
				return err
			})
		})
	}
}
