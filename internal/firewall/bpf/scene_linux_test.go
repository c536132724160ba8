package bpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"postern/internal/firewall"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/packet"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// needBPF skips the test where the kernel lets no program be loaded, or is too old for
// this one.
func needBPF(t testing.TB) {
	t.Helper()
	if !lab.RealRoot() {
		t.Skip("only root of the machine may load BPF programs")
	}
	if lacks, ok := errors.AsType[*firewall.UnsupportedError](probed()); ok && strings.Contains(lacks.Hint, "Linux 6.1") {
		t.Skip(lacks)
	}
}

var probed = sync.OnceValue(Probe)

const port = 40123

var (
	sender4, sender6 = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	server4, server6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
)

// neighbour returns another address of the family.
func neighbour(a netip.Addr) netip.Addr { return a.Next() }

// An envelope is a way to carry a token.
type envelope int

const (
	datagram envelope = iota
	ping
	synData
)

var envelopes = []envelope{datagram, ping, synData}

func (e envelope) String() string { return [...]string{"UDP", "ping", "SYN"}[e] }

// packet returns a packet with a token, or anything else, from a sender.
func (e envelope) packet(from netip.Addr, payload []byte) packet.Packet {
	p := packet.Packet{Src: from, Dst: server4, Payload: payload}
	if from.Is6() {
		p.Dst = server6
	}
	switch e {
	case datagram:
		p.UDP = &packet.UDP{SrcPort: 50000, DstPort: port}
	case ping:
		p.ICMP = &packet.ICMP{Type: packet.EchoRequest, ID: 77, Seq: 1}
		if from.Is6() {
			p.ICMP.Type = packet.EchoRequestV6
		}
	case synData:
		p.TCP = &packet.TCP{SrcPort: 50000, DstPort: port, Seq: 1000, Flags: packet.SYN, Window: 65535, Options: []byte{2, 4, 5, 180}}
	}
	return p
}

const ethernet = 14 // bytes of a link header

// frame returns a packet as it arrives by the loopback interface, whose address is
// zero, as is that of the frame.
func frame(t testing.TB, p packet.Packet) []byte {
	t.Helper()
	b := make([]byte, ethernet, 256)
	b[12], b[13] = 0x08, 0x00
	if p.Src.Is6() {
		b[12], b[13] = 0x86, 0xdd
	}
	b, err := p.Append(b)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// skBuff is struct __sk_buff, as BPF_PROG_TEST_RUN takes and returns it.
type skBuff struct {
	Len, PktType, Mark, QueueMapping uint32
	Protocol, VLANPresent, VLANTCI   uint32
	VLANProto, Priority              uint32
	IngressIfindex, Ifindex, TCIndex uint32
	_                                [36]uint32
}

// A verdict is what the program does with a packet.
type verdict struct {
	answer   int32 // of the program
	priority uint32
}

const next = -1 // NEXT of kernel.h

func (p *Program) run(frame []byte, priority uint32) (verdict, error) {
	answer, out, err := p.pass(frame, skBuff{Priority: priority})
	return verdict{answer, out.Priority}, err
}

// pass has the program judge a packet as it is, and returns its answer and what becomes of it.
func (p *Program) pass(frame []byte, in skBuff) (answer int32, out skBuff, err error) {
	n, err := p.program.Run(&ebpf.RunOptions{Data: frame, Context: in, ContextOut: &out})
	return int32(n), out, err
}

// A scene is the program, beside the verifier that it is compared with, and a few
// devices and doors.
type scene struct {
	t        testing.TB
	spec     *ebpf.CollectionSpec // of a fault
	c        Config
	program  *Program
	verifier *key.Verifier
	people   []Device
	counts   Counts

	ahead  time.Duration // of tokens that are made, so that the verifiers are not too new for them
	serial time.Duration
}

var doors = []key.Door{key.DoorID("ssh"), key.DoorID("web")}

// newScene loads the program without attaching it: three devices, of which the last
// has one door only.
func newScene(t testing.TB, spec *ebpf.CollectionSpec, change func(*Config)) *scene {
	t.Helper()
	needBPF(t)
	s := &scene{t: t, c: Config{Site: key.NewSite(), Port: port, Window: key.DefaultWindow}}
	if change != nil {
		change(&s.c)
	}
	s.people = []Device{
		{ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors},
		{ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors, Until: time.Now().Add(time.Hour)},
		{ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors[:1]},
	}
	if spec == nil {
		var err error
		if spec, err = readSpec(object); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.program, err = load(spec, s.c, s.people, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.program.Close)
	s.verifier = &key.Verifier{Site: s.c.Site, Window: s.c.Window, MustBind: s.c.MustBind}
	for _, d := range s.people {
		s.verifier.Add(d.ID, d.Secret, d.Until)
		for _, door := range d.Doors {
			s.verifier.Allow(d.ID, door, time.Now())
		}
	}
	s.advance(time.Minute)
	return s
}

// advance lets time pass for both verifiers.
func (s *scene) advance(by time.Duration) {
	s.t.Helper()
	s.age(by)
	s.step(by)
}

// age makes all pairs of the program older.
func (s *scene) age(by time.Duration) {
	s.t.Helper()
	uses, err := readMap[uint32, useValue](s.program.maps[mapUses])
	if err != nil {
		s.t.Fatal(err)
	}
	for code, use := range uses {
		use.Since -= uint64(by)
		if err := s.program.maps[mapUses].Put(code, use); err != nil {
			s.t.Fatal(err)
		}
	}
}

// step sets the clock of both verifiers forward. The program's is set by what it
// believes to be the offset of TAI.
func (s *scene) step(by time.Duration) {
	s.t.Helper()
	s.ahead += by
	offset, err := TAI()
	if err != nil {
		s.t.Fatal(err)
	}
	c := s.c.value(offset)
	c.Offset -= uint64(s.ahead)
	c.Doubt = 0
	if err := s.program.maps[mapConfig].Put(uint32(0), c); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) now() time.Time { return time.Now().Add(s.ahead) }

// fresh returns a time that no token has had.
func (s *scene) fresh() time.Time {
	s.serial++
	return s.now().Add(s.serial)
}

func (s *scene) credential(person, door int) key.Credential {
	d := s.people[person]
	return key.Credential{Site: s.c.Site, Device: d.ID, Door: doors[door], Secret: d.Secret}
}

func (s *scene) code(device key.Device, door key.Door) uint32 {
	for _, pair := range s.program.pairs {
		if pair.Device == device && pair.Door == door {
			return pair.Code
		}
	}
	s.t.Fatalf("no code for %v %v", device, door)
	return 0
}

func closing(a key.Action) uint32 {
	if a == key.Close {
		return Closing
	}
	return 0
}

// outcome returns what the program has counted since it was last called: 0 for a
// token that was accepted, or a refusal; -1 if nothing.
func (s *scene) outcome() int {
	s.t.Helper()
	r := &Running{instances: []*instance{&s.program.instance}}
	now, err := r.Counts()
	if err != nil {
		s.t.Fatal(err)
	}
	before := s.counts
	s.counts = now
	outcome := -1
	for i := range now {
		switch now[i] - before[i] {
		case 0:
		case 1:
			if outcome >= 0 {
				s.t.Fatal("a packet was counted twice")
			}
			outcome = i
		default:
			s.t.Fatalf("a packet was counted %d times", now[i]-before[i])
		}
	}
	return outcome
}

// compare has both verifiers judge a token, and returns an error where they differ.
// Otherwise it returns the verifier's refusal, or 0.
func (s *scene) compare(e envelope, from netip.Addr, token key.Token) (key.Refusal, error) {
	s.t.Helper()
	got, err := s.program.run(frame(s.t, e.packet(from, token[:])), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	outcome := s.outcome()
	device, door, does, err := s.verifier.Verify(token, from, s.now())
	want, refusal := verdict{answer: next}, key.Refusal(0)
	if err == nil {
		want.priority = s.code(device, door) | closing(does)
	} else {
		refusal = err.(key.Refusal)
	}
	if got != want || outcome != int(refusal) {
		return refusal, fmt.Errorf("%v from %v: the program answers %+v and counts %q (%d), want %+v and %q",
			e, from, got, key.Refusal(outcome), outcome, want, refusal)
	}
	return refusal, nil
}

// want compares, and ends the test if the verifiers differ or do not say what is
// wanted.
func (s *scene) want(what string, e envelope, from netip.Addr, token key.Token, want key.Refusal) {
	s.t.Helper()
	if got, err := s.compare(e, from, token); err != nil {
		s.t.Errorf("%s: %v", what, err)
	} else if got != want {
		s.t.Errorf("%s, %v from %v: %q, want %q", what, e, from, got, want)
	}
}

// each runs a test for each envelope and family.
func each(t *testing.T, test func(t *testing.T, e envelope, from netip.Addr)) {
	for _, e := range envelopes {
		for _, from := range []netip.Addr{sender4, sender6} {
			t.Run(fmt.Sprintf("%v/%v", e, from), func(t *testing.T) { test(t, e, from) })
		}
	}
}

func randomToken() (t key.Token) {
	for i := range t {
		t[i] = byte(rand.Uint32())
	}
	return t
}
