package nftables

import (
	"crypto/rand"
	"flag"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/key"
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

		s.sendAtOnce(t, all, asks)
		s.Settled()
		connections := s.counter(t, "all"+f.Digit())
		sources := len(regexp.MustCompile(`198\.51\.|3fff:c:`).FindAllString(s.nft("list set inet judge each"+f.Digit()), -1))
		if connections != pairs || sources != pairs {
			t.Errorf("%d grants let in %d connections from %d sources", pairs, connections, sources)
		}
	})
}

// sendAtOnce sends two lists of packets that are as long, each from a CPU of its own. Every
// few of them begin on both at the same moment.
func (s *scene) sendAtOnce(t *testing.T, cpus []int, lists [2][][]byte) {
	t.Helper()
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
			sent[i] <- lab.OnCPU(cpus[i%len(cpus)], func() error {
				for at := 0; at < len(lists[i]); at += batch {
					for arrived.Add(1); arrived.Load() < int64(2*(at/batch+1)); {
						yield()
					}
					if _, err := sender.Send(lists[i][at:min(at+batch, len(lists[i]))]...); err != nil {
						arrived.Add(2 * int64(len(lists[i]))) // the other one need not wait
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
}

var rounds = flag.Int("rounds", 5_000, "how often two CPUs get a token with the same tag at the same moment")

// TestTagRace sends each of many tags twice, from two CPUs at the same moment. One of the two
// opens the door.
func TestTagRace(t *testing.T) {
	t.Parallel()
	cpus := labtest.CPUs(t)
	if len(cpus) < 2 {
		t.Skip("there is only one CPU")
	}
	s := newScene(t)
	m := labtest.Compile(t, s.Backend, devicesOf(labtest.Closed, 1))
	ring := labtest.Keys(m)
	s.applyTags(m)
	code := tagPairs(m, ring)[0].Code
	opened := func() uint64 {
		for _, c := range s.Inspect().Counters {
			if c.Name == "key_ssh" {
				return c.Packets
			}
		}
		t.Fatal("no counter")
		return 0
	}
	src := s.NewAddress(labtest.IPv4)
	for done := 0; done < *rounds; {
		n := min(20*partSize, *rounds-done)
		var lists [2][][]byte
		var part []entry
		if err := s.Gateway.Do(func() error {
			for range n {
				var token key.Token
				rand.Read(token[:])
				frame, err := envelope("udp").in(s, src, token[:]).Append(nil)
				if err != nil {
					return err
				}
				lists[0], lists[1] = append(lists[0], frame), append(lists[1], frame)
				tag := token.Tag()
				part = append(part, entry{element: element{key: tag[:], data: idBytes(code)}, expire: time.Hour})
				if len(part) == partSize || len(lists[0]) == n {
					if err := (Backend{}).edit(func(all *batch) { all.addElements("tags", part) }); err != nil {
						return err
					}
					part = nil
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		before := opened()
		if err := s.Gateway.Do(func() error { // more tags are used than can be right at the same time
			return Backend{}.edit(func(all *batch) { all.flushSet("first"); all.flushSet("used_tags") })
		}); err != nil {
			t.Fatal(err)
		}
		s.sendAtOnce(t, cpus, lists)
		s.Settled()
		if got := opened() - before; got != uint64(n) {
			t.Fatalf("%d tags have opened the door %d times", n, got)
		}
		done += n
	}
	t.Logf("%d tags, each sent twice at once, have opened the door %d times", *rounds, opened())
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
