package automaton_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// tokenPolicy has a door that keys alone open, and one that has a sequence, too.
const tokenPolicy = `
version: 1
posture: closed
keys: {port: udp/99}
users:
  alice: {devices: [laptop, phone]}
  bob: {devices: [laptop], networks: [198.51.100.0/24]}
doors:
  ssh:
    service: tcp/22
    knock: {key: [alice, bob]}
    admit: any
  web:
    service: [tcp/80, tcp/443]
    knock: {sequence: [1, 2, 3], key: [bob]}
    from: [198.51.100.0/25, 2001:db8::/32]
    forfeit: true
`

var alicesAddress, bobsAddress = netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("198.51.100.1")

// to is an input to a port, from one address and port.
func to(from netip.Addr, port string) automaton.Input {
	p, err := policy.ParsePort(port)
	if err != nil {
		panic(err)
	}
	return automaton.Input{Source: from, Dest: netip.MustParseAddr("192.0.2.1"), Port: p, SourcePort: 40000, Sequence: uint32(p.Number)}
}

func TestTokens(t *testing.T) {
	m := compile(t, tokenPolicy)
	var got []string
	for i := range m.Tokens {
		token := &m.Tokens[i]
		got = append(got, token.Name()+" "+m.Doors[token.Door].Name)
		if m.Token(token.Name(), m.Doors[token.Door].Name) != token {
			t.Errorf("%s is not found", got[i])
		}
	}
	if want := []string{"alice/laptop ssh", "alice/phone ssh", "bob/laptop ssh", "bob/laptop web"}; !slices.Equal(got, want) {
		t.Errorf("tokens %q, want %q", got, want)
	}
	for _, none := range [][2]string{{"alice/laptop", "web"}, {"bob/phone", "ssh"}, {"bob/laptop", "mail"}} {
		if m.Token(none[0], none[1]) != nil {
			t.Errorf("there is a token of %s for %s", none[0], none[1])
		}
	}
}

// TestToken: a token gives what the last knock of its door gives, to whom that and
// the user's networks would give it. It forgets the progress made before, and touches nothing
// else.
func TestToken(t *testing.T) {
	m := compile(t, tokenPolicy)
	for name, test := range map[string]struct {
		token, door string
		sender      string
		granted     bool
	}{
		"from anywhere":                   {"alice/laptop", "ssh", "203.0.113.1", true},
		"over IPv6":                       {"alice/phone", "ssh", "2001:db8::1", true},
		"from the user's network":         {"bob/laptop", "ssh", "198.51.100.200", true},
		"from elsewhere":                  {"bob/laptop", "ssh", "203.0.113.1", false},
		"from the user's, in IPv6 form":   {"bob/laptop", "ssh", "::ffff:198.51.100.200", true},
		"from both's":                     {"bob/laptop", "web", "198.51.100.1", true},
		"from the user's, not the door's": {"bob/laptop", "web", "198.51.100.200", false},
		"from the door's, not the user's": {"bob/laptop", "web", "2001:db8::1", false},
	} {
		t.Run(name, func(t *testing.T) {
			r, sender := automaton.NewReference(m), netip.MustParseAddr(test.sender)
			begun := r.Step(0, to(sender, "1")).To
			v := r.Token(second, sender, m.Token(test.token, test.door))
			if v.Granted != test.granted || v.Admitted || v.Rule != 0 || v.Door.Name != test.door || v.From != begun {
				t.Errorf("the verdict is %+v", v)
			}
			if v.To == begun || r.SourceState(sender).At(second).State != v.To {
				t.Errorf("the source goes from %v to %v", v.From, v.To)
			}
			port := map[string]string{"ssh": "22", "web": "443"}[test.door]
			if got := r.Step(2*second, to(sender, port)).Admitted; got != test.granted {
				t.Errorf("admitted: %v", got)
			}
		})
	}
}

// TestTokenOpens: what a token gives lasts as long as what a knock gives, from the
// last token, and is the same: a door with a sequence leaves its source in the same
// state.
func TestTokenOpens(t *testing.T) {
	m := compile(t, tokenPolicy)
	byToken, byKnocks := automaton.NewReference(m), automaton.NewReference(m)
	for i, knock := range []string{"1", "2", "3"} {
		byKnocks.Step(time.Duration(i)*second, to(bobsAddress, knock))
	}
	byToken.Token(2*second, bobsAddress, m.Token("bob/laptop", "web"))
	got, want := byToken.SourceState(bobsAddress), byKnocks.SourceState(bobsAddress)
	if fmt.Sprint(got) != fmt.Sprint(want) || len(want.Grants) != 2 || want.State == automaton.Root {
		t.Errorf("a token gives %v, the knocks %v", got, want)
	}
	r := automaton.NewReference(m)
	r.Token(0, alicesAddress, m.Token("alice/laptop", "ssh"))
	r.Token(9*second, alicesAddress, m.Token("alice/phone", "ssh"))
	if !r.Step(19*second-1, to(alicesAddress, "22")).Admitted || r.Step(19*second, to(alicesAddress, "22")).Rule == 2 {
		t.Error("a second token does not renew the grant for the whole of its time")
	}
}

// TestTokenCosts: a token takes nothing from the budget of attempts, needs none of
// it, and costs no grant.
func TestTokenCosts(t *testing.T) {
	m := compile(t, tokenPolicy)
	r := automaton.NewReference(m)
	ssh, web := m.Token("bob/laptop", "ssh"), m.Token("bob/laptop", "web")
	for range 3 * automaton.Attempts.Burst {
		r.Token(0, bobsAddress, web)
		r.Token(0, bobsAddress, ssh)
	}
	if got := len(r.SourceState(bobsAddress).At(0).Grants); got != 3 {
		t.Errorf("%d grants: a token costs its sender those of doors with forfeit", got)
	}
	for i := range automaton.Attempts.Burst {
		if v := r.Step(0, to(bobsAddress, "9")); v.Rule == 3 {
			t.Fatalf("the budget is spent after %d inputs", i)
		}
	}
	if r.Step(0, to(bobsAddress, "9")).Rule != 3 {
		t.Fatal("the budget is not spent")
	}
	if !r.Token(0, bobsAddress, web).Granted {
		t.Error("a token needs a budget")
	}
}

// TestKeyPort: no packet to the port of keys is an input.
func TestKeyPort(t *testing.T) {
	m := compile(t, tokenPolicy)
	r := automaton.NewReference(m)
	for _, port := range []string{"1", "99", "udp/99", "2"} {
		for range 3 * automaton.Attempts.Burst {
			if v := r.Step(0, to(bobsAddress, port)); v.Admitted {
				t.Fatalf("%s is admitted", port)
			}
			if port != "99" && port != "udp/99" {
				break
			}
		}
	}
	if !r.Step(0, to(bobsAddress, "3")).Granted {
		t.Error("packets to the port of keys are strays")
	}
}

// TestTokenGrantNames: what keys have opened lasts when others get keys. A door that
// gets a sequence, too, is another one.
func TestTokenGrantNames(t *testing.T) {
	const with = "version: 1\nposture: closed\nkeys: {port: udp/99}\nusers: {%s}\ndoors: {%s}\n"
	const alice = "alice: {devices: [laptop]}"
	id := compile(t, fmt.Sprintf(with, alice, "a: {service: 22, knock: {key: [alice]}}")).Grants[0].ID
	for _, test := range []struct {
		what, users, doors string
		same               bool
	}{
		{"another user", alice + ", bob: {devices: [laptop]}", "a: {service: 22, knock: {key: [bob, alice]}}", true},
		{"another device", "alice: {devices: [phone]}", "a: {service: 22, knock: {key: [alice]}}", true},
		{"another door to the service", alice, "b: {service: 22, knock: {key: [alice]}}, a: {service: 22, knock: {key: [alice]}}", true},
		{"another name", alice, "b: {service: 22, knock: {key: [alice]}}", false},
		{"another time", alice, "a: {service: 22, knock: {key: [alice]}, open_for: 1m}", false},
		{"a sequence", alice, "a: {service: 22, knock: {key: [alice], sequence: [1, 2]}}", false},
	} {
		if got := compile(t, fmt.Sprintf(with, test.users, test.doors)).Grant(id) != nil; got != test.same {
			t.Errorf("%s: the grant is there: %v", test.what, got)
		}
	}
	sequence := compile(t, grantPolicy(grantDoor, "")).Grants[0].ID
	if compile(t, fmt.Sprintf(with, alice, "a: {service: 22, knock: {key: [alice], sequence: [1, 2]}}")).Grant(sequence) == nil {
		t.Error("a door that keys open, too, does not know what it has granted")
	}
}

// TestScanHasNoKey: no scan opens a door that keys alone open, and the port of keys
// spoils no knocks.
func TestScanHasNoKey(t *testing.T) {
	const text = `
version: 1
posture: closed
keys: {port: udp/99}
users: {alice: {devices: [laptop]}}
doors:
  keyed: {service: tcp/22, knock: {key: [alice]}}
  beside: {service: tcp/80, knock: {sequence: [98, 100]}}
  apart: {service: tcp/81, knock: {sequence: [198, 200]}}
`
	m := compile(t, text)
	for order, want := range map[automaton.Order][]bool{
		automaton.Ascending: {false, true, false}, automaton.Descending: {false, false, false}, automaton.Random: {false, true, true},
	} {
		for i, r := range m.Scan(automaton.Scan{Order: order}) {
			if r.Opens != want[i] {
				t.Errorf("%s: door %s opens: %v", order, r.Door.Name, r.Opens)
			}
		}
	}
	alone := compile(t, strings.Join(strings.SplitAfter(text, "\n")[:7], ""))
	for _, order := range []automaton.Order{automaton.Ascending, automaton.Descending, automaton.Random} {
		if r := alone.Scan(automaton.Scan{Order: order, CPUs: 16}); len(r) != 1 || r[0].Opens {
			t.Errorf("%s: %+v", order, r)
		}
	}
	if found := alone.Lint(); len(found) > 0 {
		t.Errorf("a door that keys alone open: %v", found)
	}
}
