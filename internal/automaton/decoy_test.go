package automaton_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// decoyDoors has two doors whose first knocks leave states that differ, one that a single
// knock opens, and one whose first knock is of another protocol.
const decoyDoors = "version: 1\nposture: closed\ndoors:\n" +
	"  ssh: {service: tcp/22, knock: {sequence: [1001, 2001, 3001], step_timeout: 5s}}\n" +
	"  vpn: {service: udp/1194, knock: {sequence: [1002, 2002], retransmits: reset, step_timeout: 7s}}\n" +
	"  web: {service: tcp/443, knock: {sequence: [1003]}}\n" +
	"  dns: {service: udp/53, knock: {sequence: [udp/1004, 2004]}}\n"

func decoysOf(t *testing.T, text, secret string) (*automaton.Machine, map[policy.Port]automaton.Decoy) {
	t.Helper()
	m := compile(t, text)
	m.Secret = []byte(secret)
	byPort := map[policy.Port]automaton.Decoy{}
	for _, d := range m.Decoys() {
		if _, twice := byPort[d.Path[0]]; twice {
			t.Errorf("there are two decoys at %v", d.Path[0])
		}
		byPort[d.Path[0]] = d
	}
	return m, byPort
}

// TestDecoys: there are enough of each protocol, none is at a first knock or has the id of
// another state, and each is like a state after a first knock of its protocol, but for its port.
func TestDecoys(t *testing.T) {
	m, decoys := decoysOf(t, decoyDoors, "a secret")
	ids := map[automaton.StateID]bool{automaton.Root: true, automaton.Largest: true}
	for i := range m.States {
		ids[m.States[i].ID] = true
	}
	looks := map[string]int{}
	for port, d := range decoys {
		if ids[d.ID] {
			t.Errorf("the id of %v is taken", port)
		}
		ids[d.ID] = true
		if slices.Contains([]uint16{0, 1001, 1002, 1003}, port.Number) && port.Protocol == policy.TCP || port == (policy.Port{Protocol: policy.UDP, Number: 1004}) {
			t.Errorf("there is a decoy at %v", port)
		}
		loops := slices.Clone(d.Loops)
		if i := slices.Index(loops, port); i >= 0 {
			loops[i] = policy.Port{}
		}
		looks[fmt.Sprint(port.Protocol, " ", d.Timeout, " ", loops)]++
	}
	for look, least := range map[string]int{
		"tcp 5s [any tcp/22]": 400, "tcp 7s []": 400, "udp 3s [any udp/53]": 740,
	} {
		if looks[look] < least {
			t.Errorf("%d are like %s, want at least %d", looks[look], look, least)
		}
		delete(looks, look)
	}
	if len(looks) > 0 {
		t.Errorf("others are like %v", looks)
	}
	// What a first knock leads to is led to from a decoy, too, though it is a service.
	_, decoys = decoysOf(t, "version: 1\nposture: closed\ndoors:\n  dns: {service: udp/53, knock: {sequence: [1001, 1002], close: [udp/53, 1003]}}\n", "a secret")
	if len(decoys) < 1600 {
		t.Errorf("%d decoys", len(decoys))
	}
	for port, d := range decoys {
		if slices.Contains(d.Loops, policy.Port{Protocol: policy.UDP, Number: 53}) || !slices.Contains(d.Loops, port) {
			t.Fatalf("the decoy at %v has loops %v", port, d.Loops)
		}
	}
	for _, text := range []string{
		"doors:\n  web: {service: tcp/443, knock: {sequence: [1003]}}\n",
		"doors:\n  web: {service: tcp/443, knock: {sequence: [icmp/echo, 1003]}}\n",
	} {
		if _, none := decoysOf(t, "version: 1\nposture: closed\n"+text, "a secret"); len(none) > 0 {
			t.Errorf("%d decoys beside no first knock that leaves a state at a port: %s", len(none), text)
		}
	}
	if _, none := decoysOf(t, decoyDoors, ""); len(none) > 0 {
		t.Errorf("%d decoys without a secret", len(none))
	}
}

// TestDecoysGoOn: what can be guessed behind a first knock leads on behind a decoy just so, to a
// state of its own, which has as long and the same loops.
func TestDecoysGoOn(t *testing.T) {
	for name, test := range map[string]struct {
		knock string
		want  []string // path, timeout, loops; 1001 is the first knock
	}{
		"a ping":                 {"[1001, icmp/echo, 1002]", []string{"[first] [first tcp/22]", "[first icmp/echo] [first icmp/echo tcp/22]"}},
		"a ping without loops":   {"[1001, icmp/echo, 1002], retransmits: reset", []string{"[first] []", "[first icmp/echo] []"}},
		"the service":            {"[1001, 22, 1002]", []string{"[first] [first]", "[first tcp/22] [first tcp/22]"}},
		"the first knock again":  {"[1001, 1001, 1002]", []string{"[first] [tcp/22]", "[first first] [first tcp/22]"}},
		"a ping and the service": {"[1001, icmp/echo, 22, 1002]", []string{"[first] [first tcp/22]", "[first icmp/echo] [first icmp/echo]", "[first icmp/echo tcp/22] [first icmp/echo tcp/22]"}},
		"a ping that opens":      {"[1001, icmp/echo]", []string{"[first] [first tcp/22]"}},
		"a ping as the third":    {"[1001, 1002, icmp/echo, 1003]", []string{"[first] [first tcp/22]"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := compile(t, "version: 1\nposture: closed\ndoors:\n  ssh: {service: tcp/22, knock: {sequence: "+test.knock+", step_timeout: 7s}}\n")
			m.Secret = []byte("a secret")
			states, looks := map[automaton.StateID]automaton.Decoy{}, map[string]int{}
			for _, d := range m.Decoys() {
				before := states[d.From]
				if !slices.Equal(before.Path, d.Path[:len(d.Path)-1]) || d.Timeout != 7*time.Second {
					t.Fatalf("%v leads on from %v, for %v", d.Path, before.Path, d.Timeout)
				}
				states[d.ID] = d
				if d.Path[0] == (policy.Port{Protocol: policy.TCP, Number: 22}) {
					continue // has one loop less
				}
				looks[strings.ReplaceAll(fmt.Sprint(d.Path, " ", d.Loops), d.Path[0].String(), "first")]++
			}
			for _, want := range test.want {
				if looks[want] < 450 {
					t.Errorf("%d decoys are %s", looks[want], want)
				}
				delete(looks, want)
			}
			if len(looks) > 0 {
				t.Errorf("others are %v", looks)
			}
		})
	}
}

// TestDecoyAtService: a decoy at the port of the service has one loop there. A map of the kernel
// would have one where two were meant, and the rules would be called modified.
func TestDecoyAtService(t *testing.T) {
	m := compile(t, "version: 1\nposture: closed\ndoors:\n  ssh: {service: tcp/22, knock: {sequence: [1001, 1002]}}\n")
	ssh := policy.Port{Protocol: policy.TCP, Number: 22}
	for n := range 10000 { // one in 64 has such a decoy
		m.Secret = fmt.Append(nil, "secret ", n)
		all := m.Decoys()
		if i := slices.IndexFunc(all, func(d automaton.Decoy) bool { return d.Path[0] == ssh }); i >= 0 {
			if !slices.Equal(all[i].Loops, []policy.Port{ssh}) {
				t.Errorf("the decoy at %v has loops %v", ssh, all[i].Loops)
			}
			return
		}
	}
	t.Fatal("no secret has a decoy there")
}

// TestDecoysDiffer: no two decoys have the same id, not even where one has thousands behind it.
func TestDecoysDiffer(t *testing.T) {
	text := "version: 1\nposture: closed\ndoors:\n"
	for i := range 2900 {
		text += fmt.Sprintf("  d%d: {service: %d, knock: {sequence: [1001, %d, 1002], retransmits: reset}}\n", i, 10000+i, 10000+i)
	}
	m := compile(t, text)
	for n := range 500 { // of one in 130, two hashes are the same
		m.Secret = fmt.Append(nil, "secret ", n)
		ids := map[automaton.StateID]bool{}
		for _, d := range m.Decoys() {
			if ids[d.ID] {
				t.Fatalf("%v has the id of another decoy, with %q", d.Path, m.Secret)
			}
			ids[d.ID] = true
		}
		if len(ids) == 0 {
			t.Fatal("there are none")
		}
	}
}

// TestDecoysAreBounded: with many services behind a first knock there are fewer.
func TestDecoysAreBounded(t *testing.T) {
	for services, least := range map[int]int{1: 1000, 3: 980, 50: 110, 500: 11} {
		text := "version: 1\nposture: closed\ndoors:\n"
		for i := range services {
			text += fmt.Sprintf("  d%d: {service: %d, knock: {sequence: [1001, %d, 1002]}}\n", i, 10000+i, 20000+i)
		}
		_, decoys := decoysOf(t, text, "a secret")
		entries := 0
		for _, d := range decoys {
			entries += 2 + len(d.Loops)
			if len(d.Loops) != 1+services && !slices.Contains(d.Loops, d.Path[0]) {
				t.Errorf("%d services: %d loops", services, len(d.Loops))
			}
		}
		if len(decoys) < least || entries > 6000 {
			t.Errorf("%d services: %d decoys, of %d entries", services, len(decoys), entries)
		}
	}
}

// TestDecoyShortages: they are of protocols that have fewer decoys than asked for, and name the
// first knock that takes the room.
func TestDecoyShortages(t *testing.T) {
	port := func(n uint16) policy.Port { return policy.Port{Protocol: policy.TCP, Number: n} }
	m := compile(t, decoyDoors)
	if got := m.DecoyShortages(700); len(got) > 0 {
		t.Errorf("short: %v", got)
	}
	both := m.DecoyShortages(1025)
	if len(both) != 2 || both[0].Protocol != policy.TCP || both[0].Ports < 900 || both[1].Protocol != policy.UDP || both[1].Ports < 700 ||
		both[0].First != port(1001) {
		t.Errorf("all are short of 1,025: %v", both)
	}
	for _, text := range []string{
		"doors:\n  web: {service: tcp/443, knock: {sequence: [1003]}}\n",
		"doors:\n  web: {service: tcp/443, knock: {sequence: [icmp/echo, 1003]}}\n",
	} {
		if got := compile(t, "version: 1\nposture: closed\n"+text).DecoyShortages(100); len(got) > 0 {
			t.Errorf("%s: %v", text, got)
		}
	}
	text := "version: 1\nposture: closed\ndoors:\n  ssh: {service: 22, knock: {sequence: [1005, 2005]}}\n"
	for i := range 500 {
		text += fmt.Sprintf("  d%d: {service: %d, knock: {sequence: [1001, %d, 1002]}}\n", i, 10000+i, 20000+i)
	}
	got := compile(t, text).DecoyShortages(100)
	if len(got) != 1 || got[0].First != port(1001) || got[0].Ports < 10 || got[0].Ports > 40 {
		t.Errorf("500 services: %v", got)
	}
	// Those behind a decoy are at its port.
	got = compile(t, "version: 1\nposture: closed\ndoors:\n  ssh: {service: 22, knock: {sequence: [1001, icmp/echo, 1002]}}\n").DecoyShortages(1000)
	if len(got) != 1 || got[0].Ports > 800 {
		t.Errorf("a ping: %v", got)
	}
	// What no decoy has room for.
	text = "version: 1\nposture: closed\ndoors:\n"
	for i := range 3000 {
		text += fmt.Sprintf("  d%d: {service: %d, knock: {sequence: [1001, %d, 1002]}}\n", i, 10000+i, 10000+i)
	}
	if got := compile(t, text).DecoyShortages(100); len(got) != 1 || got[0].Ports != 0 || got[0].First != port(1001) {
		t.Errorf("3,000 services: %v", got)
	}
}

// TestDecoysGiveUp: what one decoy alone has no room for is not made again and again.
func TestDecoysGiveUp(t *testing.T) {
	text := "version: 1\nposture: closed\ndoors:\n"
	for i := range 1400 {
		text += fmt.Sprintf("  d%d: {service: %d, knock: {sequence: [1001, %d%s, 1002]}}\n", i, 10000+i, 10000+i, strings.Repeat(", 1001", 29))
	}
	m := compile(t, text)
	m.Secret = []byte("a secret")
	if n := testing.AllocsPerRun(1, func() { m.Decoys() }); n > 300_000 {
		t.Errorf("%v allocations", n)
	}
}

// TestDecoysStay: they are the same ones whatever the doors, and others of another secret.
func TestDecoysStay(t *testing.T) {
	_, before := decoysOf(t, decoyDoors, "a secret")
	same := func(text, secret string) (ports, whole int) {
		_, after := decoysOf(t, text, secret)
		for port, d := range before {
			if e, there := after[port]; there {
				ports++
				if d.ID == e.ID && d.Timeout == e.Timeout && slices.Equal(d.Loops, e.Loops) {
					whole++
				}
			}
		}
		return ports, whole
	}
	slower := strings.ReplaceAll(decoyDoors, "step_timeout: 5s", "step_timeout: 6s")
	if ports, _ := same(slower, "a secret"); ports < len(before)*9/10 {
		t.Errorf("of %d decoys %d are there when a state has another timeout", len(before), ports)
	}
	// Who has knocked is in no state then, and who has met a decoy like that neither.
	_, after := decoysOf(t, slower, "a secret")
	for port, d := range before {
		if d.ID == after[port].ID && d.Timeout != after[port].Timeout {
			t.Fatalf("%v has the same id with another timeout", port)
		}
	}
	other := decoyDoors + "  nfs: {service: tcp/2049, knock: {sequence: [1005, 2005]}}\n"
	if ports, whole := same(other, "a secret"); ports < len(before)*9/10 || whole < len(before)*3/4-50 {
		t.Errorf("of %d decoys %d are there beside another door, and %d as before", len(before), ports, whole)
	}
	if ports, _ := same(decoyDoors, "another secret"); ports > len(before)/10 {
		t.Errorf("%d of %d decoys follow from another secret, too", ports, len(before))
	}
	for port := range before {
		text := fmt.Sprintf("version: 1\nposture: closed\ndoors:\n  web: {service: tcp/443, knock: {sequence: [%v, udp/1004, 1005]}}\n", port)
		m, after := decoysOf(t, text, "a secret")
		if _, there := after[port]; there || len(m.Decoys()) < 900 {
			t.Errorf("a knock at %v leaves %d decoys, and one at its port: %v", port, len(after), there)
		}
		break
	}
}
