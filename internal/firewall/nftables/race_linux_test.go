package nftables

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// TestOneGrantOneConnection sends two SYNs for each of many grants at the same
// moment, from two CPUs. A grant is good for one connection, however many
// packets are judged at once.
func TestOneGrantOneConnection(t *testing.T) {
	t.Parallel()
	const pairs = 50_000
	s := newScene(t)
	s.Up(labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1]}, open_for: 10m}}\n")
	// Who gets in is counted by the kernel, behind our rules: a capture might
	// have no room for so many.
	s.nft("table inet judge {\n" +
		"	counter all4 { }\n	counter all6 { }\n" +
		"	set each4 { type ipv4_addr; size 65536; flags dynamic; }\n" +
		"	set each6 { type ipv6_addr; size 65536; flags dynamic; }\n" +
		"	chain in { type filter hook input priority 10; tcp dport 22 jump count; }\n" +
		"	chain count {\n" +
		"		meta nfproto ipv4 counter name all4 add @each4 { ip saddr }\n" +
		"		meta nfproto ipv6 counter name all6 add @each6 { ip6 saddr }\n	}\n}\n")
	granting := uint64(0) // how many times the door has granted
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		all := labtest.CPUs(t)
		if len(all) < 2 {
			t.Error("this machine has one CPU, on which nothing happens at the same moment")
		}
		var knocks [][]byte
		var asks [2][][]byte
		for range pairs {
			src := s.NewAddress(f)
			knocks = append(knocks, plainSYN(t, src, labtest.On(s.Gate, f), 1000, 1))
			for i := range asks {
				asks[i] = append(asks[i], plainSYN(t, src, labtest.On(s.Gate, f), uint16(2000+i), 22))
			}
		}
		if _, err := s.Sender.Send(knocks...); err != nil {
			t.Fatal(err)
		}
		s.Settled()
		before := granting
		for _, c := range s.Inspect().Counters {
			if c.Name == "door_ssh" {
				granting = c.Packets
			}
		}
		if got := granting - before; got != pairs {
			t.Fatalf("%d of %d sources have a grant", got, pairs)
		}

		// Each batch begins on both CPUs at the same moment.
		const batch = 50
		var arrived atomic.Int64
		var sent [2]chan error
		for i := range sent {
			sender, err := s.Outside.Sender()
			if err != nil {
				t.Fatal(err)
			}
			sent[i] = make(chan error, 1)
			go func() {
				sent[i] <- lab.OnCPU(all[i%len(all)], func() error {
					for at := 0; at < pairs; at += batch {
						for arrived.Add(1); arrived.Load() < int64(2*(at/batch+1)); {
							yield()
						}
						if _, err := sender.Send(asks[i][at : at+batch]...); err != nil {
							arrived.Add(2 * pairs) // the other one need not wait
							return err
						}
					}
					return nil
				})
			}()
		}
		for i := range sent {
			if err := <-sent[i]; err != nil {
				t.Fatal(err)
			}
		}
		s.Settled()
		connections := s.counter(t, "all"+f.Digit())
		sources := len(regexp.MustCompile(`198\.51\.|3fff:c:`).FindAllString(s.nft("list set inet judge each"+f.Digit()), -1))
		if connections != pairs || sources != pairs {
			t.Errorf("%d grants let in %d connections from %d sources", pairs, connections, sources)
		}
	})
}

// plainSYN is a SYN, ready to be sent.
func plainSYN(t *testing.T, src, dst netip.Addr, from, to uint16) []byte {
	t.Helper()
	p := &packet.Packet{Src: src, Dst: dst, TCP: &packet.TCP{SrcPort: from, DstPort: to, Seq: 1, Flags: packet.SYN, Window: 64240}}
	b, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// yield lets others of this CPU run.
func yield() { unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// nft has the gateway's nft do what a text says, and returns what it prints.
func (s *scene) nft(text string) string {
	s.T.Helper()
	cmd := s.Gateway.Command(s.T.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.T.Fatalf("nft: %v\n%s", err, out)
	}
	return string(out)
}

// counter reads a counter of the table judge.
func (s *scene) counter(t *testing.T, name string) int {
	t.Helper()
	out := s.nft("list counter inet judge " + name)
	found := regexp.MustCompile(`packets (\d+)`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no counter %s in %s", name, out)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(fmt.Errorf("counter %s: %w", name, err))
	}
	return n
}
