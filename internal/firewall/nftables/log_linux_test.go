package nftables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// A logLineRead is what the kernel says of one packet.
type logLineRead struct {
	Prefix string
	Source netip.Addr
}

// TestLog reads the lines that are left over NFLOG: the kernel's own log shows none
// from a network namespace. What a door lets in leaves one, and no other packet,
// unless the policy asks for the progress of knocks.
func TestLog(t *testing.T) {
	t.Parallel()
	const doors = `
doors:
  ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456]}}
  strict: {service: tcp/23, knock: {sequence: [5, 6]}, forfeit: true, from: [198.51.0.0/16, "3fff::/20"]}
  closed-club: {service: tcp/24, knock: {sequence: [7, 8]}, from: [203.0.113.1]}
  name: {service: udp/53, knock: {sequence: [11, 12]}, admit: any}
  end: {service: tcp/99, knock: {sequence: [99]}}
`
	accepted := func(door string, src netip.Addr) logLineRead {
		return logLineRead{"Knock accepted!: " + door + " ", src}
	}
	second := func(src netip.Addr) logLineRead { return logLineRead{"In knock 2: ", src} }
	third := func(src netip.Addr) logLineRead { return logLineRead{"In knock 3: ", src} }
	for _, progress := range []bool{false, true} {
		t.Run(fmt.Sprint("progress ", progress), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.Up(fmt.Sprintf("version: 1\nposture: closed\nlog: {target: nflog, group: 7, progress: %v}\n", progress) + doors)
			log := readLog(t, s.Gateway, 7)
			// lines returns what has been logged since it was asked last: up to a line
			// that it brings about itself.
			lines := func(f labtest.Family) []logLineRead {
				t.Helper()
				end := s.NewAddress(f)
				s.Knock(end, labtest.TCP(99), labtest.TCP(99))
				var all []logLineRead
				for {
					select {
					case line := <-log:
						if line == accepted("end", end) {
							return all
						}
						all = append(all, line)
					case <-time.After(20 * time.Second):
						t.Fatal("what is let in is not logged")
					}
				}
			}
			expect := func(t *testing.T, f labtest.Family, always, progressed []logLineRead) {
				t.Helper()
				want := always
				if progress {
					want = progressed
				}
				if d := cmp.Diff(want, lines(f), equalAddr); d != "" {
					t.Errorf("(-want +got)\n%s", d)
				}
			}
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				t.Run("scanners leave nothing", func(t *testing.T) {
					for range 50 {
						src := s.NewAddress(f)
						s.Knock(src, labtest.TCP(1234))
						src = s.NewAddress(f)
						s.Knock(src, labtest.TCP(9), labtest.TCP(22), labtest.UDP(1234), labtest.Echo, labtest.TCP(3456), labtest.TCP(2345), labtest.TCP(5))
					}
					expect(t, f, nil, nil)
				})
				t.Run("knocks and a connection", func(t *testing.T) {
					src := s.NewAddress(f)
					s.Knock(src, howtoKnocks...)
					expect(t, f, nil, []logLineRead{second(src), third(src)})
					s.Knock(src, labtest.TCP(22))
					expect(t, f, []logLineRead{accepted("ssh", src)}, []logLineRead{accepted("ssh", src)})
				})
				t.Run("datagrams", func(t *testing.T) {
					src := s.NewAddress(f)
					s.Knock(src, labtest.TCP(11), labtest.TCP(12), labtest.UDP(53))
					expect(t, f, []logLineRead{accepted("name", src)}, []logLineRead{second(src), accepted("name", src)})
				})
				t.Run("a wrong port on the way", func(t *testing.T) {
					src := s.NewAddress(f)
					s.Knock(src, labtest.TCP(1234), labtest.TCP(2345), labtest.TCP(9), labtest.TCP(3456), labtest.TCP(22))
					expect(t, f, nil, []logLineRead{second(src), third(src)})
				})
				t.Run("whom the door is not for", func(t *testing.T) {
					src := s.NewAddress(f)
					s.Knock(src, labtest.TCP(7), labtest.TCP(8), labtest.TCP(24))
					expect(t, f, nil, []logLineRead{second(src)})
				})
				t.Run("with forfeit", func(t *testing.T) {
					src := s.NewAddress(f)
					s.Knock(src, labtest.TCP(5), labtest.TCP(6), labtest.TCP(5), labtest.TCP(6), labtest.TCP(23))
					expect(t, f, []logLineRead{accepted("strict", src)}, []logLineRead{second(src), second(src), accepted("strict", src)})
				})
				if !progress {
					return
				}
				t.Run("a flood of second knocks", func(t *testing.T) {
					start := time.Now()
					var packets []*packet.Packet
					for range 1000 {
						src := s.NewAddress(f)
						packets = append(packets, s.Opening(src, labtest.On(s.Gate, f), labtest.TCP(1234)), s.Opening(src, labtest.On(s.Gate, f), labtest.TCP(2345)))
					}
					s.Send(packets...)
					got := lines(f)
					most := int(logRate.burst) + int(logRate.n)*(1+int(time.Since(start).Seconds()+1))
					if len(got) < int(logRate.burst)/2 || len(got) > most {
						t.Errorf("1,000 second knocks left %d lines, want at most %d", len(got), most)
					}
					time.Sleep(2 * time.Second) // for the burst that the other family may have
				})
			})
		})
	}
}

var equalAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// What the kernel calls the messages of NFLOG (linux/netfilter/nfnetlink_log.h).
const (
	nflogPacket = unix.NFNL_SUBSYS_ULOG << 8
	nflogConfig = nflogPacket | 1

	nflogCommand   = 1 // attributes of a config
	nflogMode      = 2
	nflogThreshold = 5
	nflogPayload   = 9 // attributes of a packet
	nflogPrefix    = 10
)

// readLog returns the lines that a host's rules log to a group.
func readLog(t *testing.T, h *lab.Host, group uint16) <-chan logLineRead {
	t.Helper()
	var conn *netlink.Conn
	if err := h.Do(func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	config, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: nflogCommand, Data: []byte{1}},               // bind
		{Type: nflogMode, Data: []byte{0, 0, 0, 100, 2, 0}}, // 100 octets of each packet
		{Type: nflogThreshold, Data: []byte{0, 0, 0, 1}},    // at once
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: nflogConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, group), config...),
	}); err != nil {
		t.Fatal(err)
	}
	lines := make(chan logLineRead, 10_000)
	go func() {
		for {
			messages, err := conn.Receive()
			if err != nil {
				return // closed
			}
			for _, m := range messages {
				if m.Header.Type == nflogPacket && len(m.Data) > 4 {
					lines <- logLineOf(m.Data[4:])
				}
			}
		}
	}()
	return lines
}

func logLineOf(data []byte) logLineRead {
	attributes, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return logLineRead{Prefix: err.Error()}
	}
	var line logLineRead
	for _, a := range attributes {
		switch a.Type {
		case nflogPrefix:
			line.Prefix = string(bytes.TrimRight(a.Data, "\x00"))
		case nflogPayload:
			p, err := packet.Parse(a.Data)
			if err != nil {
				return logLineRead{Prefix: fmt.Sprint(line.Prefix, err)}
			}
			line.Source = p.Src
		}
	}
	return line
}
