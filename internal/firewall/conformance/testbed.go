package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// The network of every test: a server with two cables to a client, which sends
// packets for all sources. The server has two addresses of each family, and
// routes to all sources.
var (
	servers4 = []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")}
	servers6 = []netip.Addr{netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::3")}
)

// links are the names of the server's interfaces.
var links = [2]string{"client", "client2"}

// A testbed is the lab with a backend in it.
type testbed struct {
	lab         *lab.Lab
	server      *lab.Host
	backend     firewall.Backend
	senders     [2]*lab.Sender
	arrived     [2]*lab.Capture // at the server's interfaces, before all rules
	admitted    []*lab.Capture  // after all rules
	sockets     []io.Closer
	cpus        []int
	next        uint32 // the tag of the last packet
	keys        automaton.Keyring
	newest      time.Time           // of all tokens
	lastTokens  map[tokenUse][]byte // that were right
	tokenTags   sync.Map            // of packets with tokens: string -> uint32; captures read it meanwhile
	tags        *tags               // nil where no tags verify tokens
	plays       int
	inspections int
	early       uint64 // how many packets were dropped early, as the backend said last
	dropped     int    // so many in all
}

func newTestbed(b firewall.Backend, keys automaton.Keyring) (*testbed, error) {
	l := lab.New()
	w := &testbed{
		lab: l, backend: b, server: l.Host("server"),
		keys: keys, lastTokens: map[tokenUse][]byte{},
	}
	if err := w.build(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *testbed) build() error {
	client := w.lab.Host("client")
	var ends [2]*lab.Link
	var up *lab.Link
	up, ends[0] = w.lab.Connect(client, w.server, "192.0.2.0/24", "2001:db8::/64")
	ends[0].AddAddress(servers4[1].String()+"/24", servers6[1].String()+"/64")
	_, ends[1] = w.lab.Connect(client, w.server)
	w.server.Route(sources4.String(), up.Addr4())
	w.server.Route(sources6.String(), up.Addr6())
	if err := w.lab.Err(); err != nil {
		return err
	}
	for i, end := range ends {
		if end.Name != links[i] {
			return fmt.Errorf("the server's interface is %q, not %q", end.Name, links[i])
		}
		var err error
		if w.senders[i], err = end.Peer.Sender(); err != nil {
			return err
		}
		if w.arrived[i], err = end.Capture(w.tagged); err != nil {
			return err
		}
	}
	for _, p := range []packet.Protocol{packet.ProtocolTCP, packet.ProtocolUDP, packet.ProtocolICMP} {
		c, err := w.server.Admitted(p, w.tagged)
		if err != nil {
			return err
		}
		w.admitted = append(w.admitted, c)
	}
	if err := w.listen(); err != nil {
		return err
	}
	if err := w.showMarks(); err != nil {
		return err
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &set); err != nil {
		return err
	}
	for cpu := 0; len(w.cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			w.cpus = append(w.cpus, cpu)
		}
	}
	return nil
}

// listen opens every port that packets are sent to: a backend may answer for
// ports that nothing listens on, which would look as if it hid them.
func (w *testbed) listen() error {
	w.server.Sysctl("net.ipv4.tcp_synack_retries", "0") // no connection is completed
	if err := w.lab.Err(); err != nil {
		return err
	}
	numbers := map[uint16]bool{}
	for _, port := range slices.Concat(ports(knockPorts), ports(servicePorts), ports(strayPorts), ports(allowPorts), []policy.Port{keyPort}) {
		numbers[port.Number] = port.Number != 0
	}
	for n, has := range numbers {
		if !has {
			continue
		}
		address := fmt.Sprintf(":%d", n)
		tcp, err := w.server.Listen(context.Background(), "tcp", address)
		if err != nil {
			return err
		}
		w.sockets = append(w.sockets, tcp)
		udp, err := w.server.ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return err
		}
		w.sockets = append(w.sockets, udp)
	}
	return nil
}

func (w *testbed) close() error {
	for _, s := range w.sockets {
		s.Close()
	}
	return w.lab.Close()
}

func (w *testbed) apply(m *automaton.Machine) error {
	clear(w.lastTokens) // one that was refused by other rules is no replay to these
	if err := w.server.Do(func() error { return w.backend.Apply(m) }); err != nil {
		return err
	}
	if m.Parameters.Known != automaton.SameSYN {
		// Packets of known flows have random sequence numbers, and it is not
		// the suite's business which of them connection tracking calls invalid.
		// The setting may not exist before the first Apply.
		w.server.Sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", "1")
	}
	return w.lab.Err()
}

func (w *testbed) remove() error { return w.server.Do(w.backend.Remove) }

func (w *testbed) inspect() (*firewall.Status, error) {
	var s *firewall.Status
	err := w.server.Do(func() (err error) {
		if s, err = w.backend.Inspect(); err != nil {
			return err
		}
		return firewall.ReadSources(w.backend, s)
	})
	return s, err
}

// magic begins the payload of each packet; its tag follows.
const magic = 0x706f7374

func (w *testbed) tagged(p *packet.Packet) bool { return w.tagOf(p) != 0 && p.Dst.IsValid() }

// tagOf returns a packet's tag, or 0 if the packet is not the suite's. The
// server's errors and resets have no such payload, and an echo reply has
// another type. A packet with a token has no room for a tag.
func (w *testbed) tagOf(p *packet.Packet) uint32 {
	if p.ICMP != nil && p.ICMP.Type != packet.EchoRequest && p.ICMP.Type != packet.EchoRequestV6 {
		return 0
	}
	if len(p.Payload) == key.TokenSize {
		tag, _ := w.tokenTags.Load(tokenOf(p))
		n, _ := tag.(uint32)
		return n
	}
	if len(p.Payload) != 8 || binary.BigEndian.Uint32(p.Payload) != magic {
		return 0
	}
	return binary.BigEndian.Uint32(p.Payload[4:])
}

// tokenOf tells packets with tokens apart: by the token, its sender and the flow.
func tokenOf(p *packet.Packet) string {
	flow := 0
	switch {
	case p.TCP != nil:
		flow = int(p.TCP.SrcPort)
	case p.UDP != nil:
		flow = int(p.UDP.SrcPort)
	case p.ICMP != nil:
		flow = int(p.ICMP.ID)
	}
	return fmt.Sprintf("%s %d %x", p.Src, flow, p.Payload)
}

// encode returns a packet as it is on the wire.
func (w *testbed) encode(s probe, tag uint32) ([]byte, error) {
	p := packet.Packet{Src: s.src, Dst: s.dst}
	p.Payload = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, magic), tag)
	if s.token != "" {
		var err error
		if p.Payload, err = w.makeToken(s); err != nil {
			return nil, err
		}
	}
	switch s.port.Protocol {
	case policy.TCP:
		p.TCP = &packet.TCP{SrcPort: s.sport, DstPort: s.port.Number, Seq: s.seq, Flags: s.flags, Window: 64240}
		if s.token != "" { // as Linux sends them: with timestamps, or without
			p.TCP.Options = bytes.Repeat([]byte{1}, []int{12, 20}[s.seq%2])
		}
	case policy.UDP:
		p.UDP = &packet.UDP{SrcPort: s.sport, DstPort: s.port.Number}
	case policy.ICMP:
		p.ICMP = &packet.ICMP{Type: packet.EchoRequest, ID: s.sport, Seq: uint16(s.seq)}
		if s.src.Is6() {
			p.ICMP.Type = packet.EchoRequestV6
		}
	}
	if s.token != "" {
		w.tokenTags.Store(tokenOf(&p), tag)
	}
	return p.Append(nil)
}

// send sends packets at once, waits until the server has received them, and
// returns the span in which that happened. It must be called on one CPU: the
// packets are then judged in order.
func (w *testbed) send(begin time.Time, probes []probe) (first uint32, at span, err error) {
	first = w.next + 1
	w.next += uint32(len(probes))
	octets := make([][]byte, len(probes))
	for i, s := range probes {
		if octets[i], err = w.encode(s, first+uint32(i)); err != nil {
			return 0, span{}, err
		}
	}
	at.from, at.late = time.Since(begin), late()
	for i := 0; i < len(probes); {
		link, end := probes[i].link, i
		for end < len(probes) && probes[end].link == link {
			end++
		}
		if _, err := w.senders[link].Send(octets[i:end]...); err != nil {
			return 0, span{}, err
		}
		i = end
	}
	err = w.await(len(probes))
	at.to, at.late = time.Since(begin), max(at.late, late())
	return first, at, err
}

// late returns how late the kernel's clock for timeouts is, beyond a tick or
// two. One CPU advances it for all, and a busy machine, or the host of a
// virtual one, may delay that CPU by tens of milliseconds.
func late() time.Duration {
	var exact, ticks unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ticks) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &exact) != nil {
		return 0
	}
	return max(0, time.Duration(exact.Nano()-ticks.Nano())-guard/3)
}

// onCPU calls f on one CPU, another one each time, with a higher priority if
// the user may set it: late packets prove less.
func (w *testbed) onCPU(f func() error) error {
	w.plays++
	return lab.OnCPU(w.cpus[w.plays%len(w.cpus)], func() error {
		thread := unix.Gettid()
		if unix.Setpriority(unix.PRIO_PROCESS, thread, -15) == nil {
			defer unix.Setpriority(unix.PRIO_PROCESS, thread, 0)
		}
		return f()
	})
}

// await waits until n packets have arrived at the server. Each is then judged
// before the CPU does anything else.
func (w *testbed) await(n int) error {
	const tooLong = 5 * time.Second
	for since := time.Now(); ; runtime.Gosched() {
		for _, c := range w.arrived {
			got, err := c.Drain()
			if err != nil {
				return err
			}
			n -= len(got)
		}
		if n == 0 {
			return nil
		}
		if time.Since(since) > tooLong {
			return fmt.Errorf("%d packets have not arrived after %v", n, tooLong)
		}
	}
}

// drain returns the tags of all packets that the rules have let in since the
// last call, and how they were marked.
func (w *testbed) drain() (map[uint32]marks, error) {
	if err := w.lab.Settle(); err != nil {
		return nil, err
	}
	seen := map[uint32]marks{}
	for _, c := range w.admitted {
		got, err := c.Drain()
		if err != nil {
			return nil, err
		}
		for _, p := range got {
			seen[w.tagOf(p.Packet)] = marksOf(p.Packet)
		}
	}
	return seen, nil
}
