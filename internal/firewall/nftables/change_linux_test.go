package nftables

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// The doors of TestReplace. Those of ssh and vpn are in every policy.
var doorTexts = map[string]string{
	"ssh":    "{service: tcp/22, knock: {sequence: [1, 2, 3], step_timeout: 5m}, open_for: 5m}",
	"vpn":    "{service: udp/51820, knock: {sequence: [1, 5], step_timeout: 5m}, open_for: 5m, admit: any}",
	"web":    "{service: tcp/80, knock: {sequence: [1, 2, 4], step_timeout: 5m}, open_for: 5m}",
	"db":     "{service: tcp/5432, knock: {sequence: [6, 7], step_timeout: 5m}, open_for: 5m, admit: any}",
	"web2":   "{service: tcp/80, knock: {sequence: [6, 8], step_timeout: 5m}, open_for: 5m}",
	"stray":  "{service: tcp/6000, knock: {sequence: [9, 10], step_timeout: 5m}, open_for: 5m, forfeit: true}",
	"inner":  "{service: tcp/6001, forward: 10.9.9.9:22, masquerade: true, knock: {sequence: [9, 11], step_timeout: 5m}}",
	"listed": "{service: tcp/6002, from: [203.0.113.0/24], knock: {sequence: [9, 12], step_timeout: 5m}}",
}

// changes are the policies that replace each other.
func changes(t *testing.T) []*automaton.Machine {
	t.Helper()
	var machines []*automaton.Machine
	for _, c := range []struct {
		begin string
		doors string
	}{
		{labtest.Closed, "ssh vpn"},
		{labtest.Closed, "web ssh vpn"},
		{labtest.Closed, "db web vpn ssh"},
		{labtest.Closed + "cover: reset\n", "web2 db ssh vpn web"},
		{labtest.Guard, "stray inner listed vpn web db ssh"},
		{labtest.Closed + "allow: [{service: tcp/443}]\n", "ssh vpn db"},
		{labtest.Closed, "listed vpn inner ssh stray web"},
		{labtest.Closed, "web2 ssh vpn db"},
	} {
		text := c.begin + "doors:\n"
		for name := range strings.FieldsSeq(c.doors) {
			text += "  " + name + ": " + doorTexts[name] + "\n"
		}
		machines = append(machines, labtest.Compile(t, Backend{}, text))
	}
	return machines
}

func hasDoor(m *automaton.Machine, name string) bool {
	for i := range m.Doors {
		if m.Doors[i].Name == name {
			return true
		}
	}
	return false
}

// replacements is how many times TestReplace applies another policy.
const replacements = 50

// TestReplace changes the policy under traffic. What it must not do is lose what
// is there (connections, grants, progress) or let in what is not.
func TestReplace(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	machines := changes(t)
	for _, port := range []uint16{22, 80, 443, 5432, 6000, 6001, 6002} {
		labtest.Greet(t, s.Gateway, port, "hello")
	}

	// One connection is older than all rules, another came through a door.
	at := netip.AddrPortFrom(s.Gate.Addr4(), 22)
	old := s.Dial(t, s.Client, at, "hello")
	s.Apply(machines[0])
	s.Knock(s.Outside.Addr4(), labtest.TCP(1), labtest.TCP(2), labtest.TCP(3))
	young := s.Dial(t, s.Client, at, "hello")
	var flows []*flowWatch
	for _, c := range []*labtest.Session{old, young} {
		flows = append(flows, s.watch(t, c))
	}
	crowd := s.newCrowd(t)

	ssh := []policy.Port{labtest.TCP(1), labtest.TCP(2), labtest.TCP(3)}
	others := []policy.Port{labtest.TCP(80), labtest.TCP(5432), labtest.TCP(6000), labtest.TCP(6001), labtest.TCP(6002)}
	type holder struct {
		src   netip.Addr
		since int
	}
	var gone []holder // of a grant for a door that has gone since
	for i := range replacements {
		now, next := machines[i%len(machines)], machines[(i+1)%len(machines)]
		f := labtest.Families[i%2]
		granted, knocking, web := s.NewAddress(f), s.NewAddress(f), s.NewAddress(f)
		s.Knock(granted, ssh...)
		s.Knock(knocking, ssh[:2]...)
		s.Knock(web, labtest.TCP(1), labtest.TCP(2), labtest.TCP(4))
		s.Settled()

		s.Apply(next)

		var asked []*packet.Packet
		var want []labtest.Answer
		shut := labtest.Silence
		switch next.Policy.Cover.Answer(policy.TCP) {
		case policy.AnswerReset:
			shut = labtest.RST
		case policy.AnswerUnreachable:
			shut = labtest.Unreachable
		}
		expect := func(src netip.Addr, port policy.Port, a labtest.Answer) {
			asked = append(asked, s.Opening(src, labtest.On(s.Gate, f), port))
			want = append(want, a)
		}
		// A grant of ssh opens nothing else, and then ssh.
		for _, port := range others {
			expect(granted, port, shut)
		}
		expect(granted, labtest.TCP(22), labtest.SYNACK)
		// Two knocks made before and one made now open ssh.
		expect(knocking, labtest.TCP(3), shut)
		expect(knocking, labtest.TCP(22), labtest.SYNACK)
		// A grant of web opens it, if it is still there, and nothing else.
		expect(web, labtest.TCP(22), shut)
		expect(web, labtest.TCP(5432), shut)
		if had, has := hasDoor(now, "web"), hasDoor(next, "web"); had && has {
			expect(web, labtest.TCP(80), labtest.SYNACK)
		} else {
			expect(web, labtest.TCP(80), shut)
			if had {
				gone = append(gone, holder{web, i})
			}
		}
		for j, got := range s.AskAll(asked...) {
			if got != want[j] {
				t.Errorf("replacement %d, door by door: %s got %s, want %s", i, asked[j], got, want[j])
			}
		}
	}
	s.Apply(machines[7]) // without web, whose service web2 opens
	for _, h := range gone {
		for _, port := range []policy.Port{labtest.TCP(80), labtest.TCP(5432), labtest.TCP(22)} {
			s.Expect(t, h.src, port, labtest.Silence, fmt.Sprintf("a grant of a door that went with replacement %d", h.since))
		}
	}
	crowd.check(t)
	for i, w := range flows {
		t.Logf("%s connection: the longest of %d rounds took %v", []string{"the old", "the young"}[i], w.rounds.Load(), w.end(t))
	}
	s.everyPacketGotIn(t, flows)
}

// A flowWatch is a connection on which data flows all the time.
type flowWatch struct {
	port     uint16
	seen, in *lab.Capture
	stop     chan struct{}
	done     chan error
	rounds   atomic.Int64
	longest  time.Duration
}

func (s *scene) watch(t *testing.T, c *labtest.Session) *flowWatch {
	t.Helper()
	w := &flowWatch{
		port: netip.MustParseAddrPort(c.LocalAddr().String()).Port(),
		stop: make(chan struct{}), done: make(chan error, 1),
	}
	mine := func(p *packet.Packet) bool { return p.TCP != nil && p.TCP.SrcPort == w.port }
	var err error
	if w.seen, err = s.Gate.Capture(mine); err != nil {
		t.Fatal(err)
	}
	if w.in, err = s.Gateway.Admitted(packet.ProtocolTCP, mine); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			select {
			case <-w.stop:
				w.done <- nil
				return
			case <-time.After(time.Millisecond):
			}
			start := time.Now()
			if err := c.Talk(); err != nil {
				w.done <- err
				return
			}
			w.longest = max(w.longest, time.Since(start))
			w.rounds.Add(1)
		}
	}()
	return w
}

// end stops the talk and returns its longest pause, which says more about the
// machine than about the rules.
func (w *flowWatch) end(t *testing.T) time.Duration {
	t.Helper()
	close(w.stop)
	if err := <-w.done; err != nil {
		t.Errorf("a connection broke after %d rounds: %v", w.rounds.Load(), err)
	}
	return w.longest
}

// everyPacketGotIn compares what the connections have sent with what the rules
// have let in: a single packet that they kept out would be a stall.
func (s *scene) everyPacketGotIn(t *testing.T, flows []*flowWatch) {
	t.Helper()
	s.Settled()
	for _, w := range flows {
		seen, err := w.seen.Drain()
		if err != nil {
			t.Fatal(err)
		}
		in, err := w.in.Drain()
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) != len(in) || len(seen) < replacements {
			t.Errorf("the connection from port %d sent %d packets, and %d got in", w.port, len(seen), len(in))
		}
	}
}

// A crowd is clients that knock and connect, one after the other, and scanners who
// try the doors, all at any moment of a change.
type crowd struct {
	s       *scene
	sender  *lab.Sender
	answers *lab.Capture
	in      *lab.Capture
	stop    chan struct{}
	done    chan error
	clients int // that have knocked
}

// The networks of the clients and of the scanners.
var (
	clientNet  = netip.MustParsePrefix("198.51.128.0/18")
	scannerNet = netip.MustParsePrefix("198.51.192.0/18")
)

func (s *scene) newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{s: s, stop: make(chan struct{}), done: make(chan error, 1)}
	var err error
	if c.sender, err = s.Outside.Sender(); err != nil {
		t.Fatal(err)
	}
	ours := func(a netip.Addr) bool { return clientNet.Contains(a) || scannerNet.Contains(a) }
	if c.answers, err = s.Outside.Capture(func(p *packet.Packet) bool {
		return ours(p.Dst) && p.TCP != nil && p.TCP.Flags == packet.SYN|packet.ACK
	}); err != nil {
		t.Fatal(err)
	}
	if c.in, err = s.Gateway.Admitted(packet.ProtocolUDP, func(p *packet.Packet) bool { return ours(p.Src) }); err != nil {
		t.Fatal(err)
	}
	all := labtest.CPUs(t)
	go func() { c.done <- lab.OnCPU(all[len(all)-1], c.run) }()
	return c
}

// run sends until it is told to stop: for each client its knocks and its SYN, and
// for a scanner a SYN and a datagram to what is always hidden.
func (c *crowd) run() error {
	dst := c.s.Gate.Addr4()
	client, scanner := clientNet.Addr(), scannerNet.Addr()
	for {
		select {
		case <-c.stop:
			return nil
		case <-time.After(2 * time.Millisecond):
		}
		client, scanner = client.Next(), scanner.Next()
		if !clientNet.Contains(client) {
			return nil // enough
		}
		c.clients++
		var raw [][]byte
		for _, to := range []struct {
			src  netip.Addr
			port policy.Port
		}{
			{client, labtest.TCP(1)}, {scanner, labtest.TCP(22)}, {client, labtest.TCP(2)}, {scanner, labtest.UDP(51820)}, {client, labtest.TCP(3)}, {client, labtest.TCP(22)},
		} {
			p := &packet.Packet{Src: to.src, Dst: dst, TCP: &packet.TCP{SrcPort: 1024, DstPort: to.port.Number, Seq: 7, Flags: packet.SYN, Window: 1024}}
			if to.port.Protocol == policy.UDP {
				p.TCP, p.UDP = nil, &packet.UDP{SrcPort: 1024, DstPort: to.port.Number}
			}
			b, err := p.Append(nil)
			if err != nil {
				return err
			}
			raw = append(raw, b)
		}
		if _, err := c.sender.Send(raw...); err != nil {
			return err
		}
	}
}

func (c *crowd) check(t *testing.T) {
	t.Helper()
	close(c.stop)
	if err := <-c.done; err != nil {
		t.Fatal(err)
	}
	c.s.Settled()
	answers, err := c.answers.Drain()
	if err != nil {
		t.Fatal(err)
	}
	welcome := map[netip.Addr]bool{}
	for _, a := range answers {
		if scannerNet.Contains(a.Dst) {
			t.Errorf("a scanner was let in: %s", a)
		}
		welcome[a.Dst] = true
	}
	client := clientNet.Addr()
	for range c.clients {
		if client = client.Next(); !welcome[client] {
			t.Errorf("the client %s knocked and was not let in", client)
		}
	}
	datagrams, err := c.in.Drain()
	if err != nil {
		t.Fatal(err)
	}
	if len(datagrams) > 0 {
		t.Errorf("a scanner's datagram was let in: %s", datagrams[0])
	}
	if c.clients < replacements {
		t.Errorf("only %d clients knocked during %d replacements", c.clients, replacements)
	}
	t.Logf("%d clients knocked meanwhile", c.clients)
}
