package policy

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

// again formats a policy and reads the text, which must give the policy back. It
// returns the text.
func again(t rapid.TB, p *Policy) string {
	t.Helper()
	text := Format(p)
	got, err := Parse("formatted.yaml", []byte(text))
	if err != nil {
		t.Fatalf("this came of a valid policy, and is not valid:\n%s\n%v", text, err)
	}
	if diff := cmp.Diff(p, got, cmpopts.IgnoreUnexported(Policy{}), cmpopts.EquateEmpty(),
		cmpopts.IgnoreTypes(Position{}, []Position{}),
		cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Fatalf("the text means something else (-policy +text):\n%s\n%s", diff, text)
	}
	if other := Format(got); other != text {
		t.Fatalf("formatted again, this became that:\n%s\n%s", text, other)
	}
	return text
}

// samples are the policies of testdata/good and of examples, by file.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"testdata/good/*.txt", "../../examples/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 5 {
			t.Fatalf("%d files %s: %v", len(files), pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Ext(file) == ".txt" {
				text = txtar.Parse(text).Files[0].Data
			}
			if quoted, err := strconv.Unquote(strings.TrimSpace(string(text))); err == nil {
				text = []byte(quoted)
			}
			all[file] = text
		}
	}
	return all
}

func TestFormat(t *testing.T) {
	for file, text := range samples(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p, err := Parse(file, text)
			if err != nil {
				t.Fatal(err)
			}
			again(t, p)
		})
	}
}

// TestFormatLayout shows the text of a policy in which every key has a value that
// is not its default, and of one in which none has.
func TestFormatLayout(t *testing.T) {
	for file, want := range map[string]string{
		"testdata/good/minimal.txt": `version: 1
posture: closed

doors:
  ssh:
    service: tcp/22
    knock:
      sequence: [1234, 2345, 3456]
`,
		"testdata/good/everything.txt": `version: 1
posture: closed
interfaces: [eth0, wlan0]
cover: unreachable
early_drop: false

allow:
  - service: tcp/443
  - from: 192.0.2.0/24
  - interface: wg0
  - {service: tcp/25, from: "2001:db8::25", interface: eth1}

keys: {port: udp/40123, address: required}

users:
  alice: {devices: [laptop, phone], networks: [198.51.100.0/24, "2001:db8::/32"], until: 2027-06-30}

doors:
  ssh:
    service: tcp/22
    address: 192.0.2.1
    forward: 192.168.1.50:443
    masquerade: true
    knock:
      sequence: [1234, udp/4000, icmp/echo]
      close: [icmp/echo, udp/4001, 1234]
      key: [alice]
      step_timeout: 1m30s
      retransmits: reset
    open_for: 24h
    admit: any
    forfeit: true
    on_close: cut
    from: [203.0.113.0/24, 198.51.100.7]

admitted: {mark: 0x1000}

source: {ipv4: 24, ipv6: 64}

log: {target: nflog, group: 65535, progress: true}

backend: iptables
`,
	} {
		p, err := Parse(file, samples(t)[file])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, again(t, p)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// TestFormatKnowsEveryField: everything.txt must have a value for every field, so
// that a key which Format does not write cannot pass TestFormat.
func TestFormatKnowsEveryField(t *testing.T) {
	p, err := Parse("", samples(t)["testdata/good/everything.txt"])
	if err != nil {
		t.Fatal(err)
	}
	usual, door := New(p.Posture), NewDoor("")
	compare := func(what string, got, usual any) {
		g, u := reflect.ValueOf(got), reflect.ValueOf(usual)
		for i := range g.NumField() {
			if f := g.Type().Field(i); f.IsExported() && f.Name != "Posture" && reflect.DeepEqual(g.Field(i).Interface(), u.Field(i).Interface()) {
				t.Errorf("%s.%s has its default in everything.txt", what, f.Name)
			}
		}
	}
	compare("Policy", *p, *usual)
	compare("Admitted", p.Admitted, usual.Admitted)
	compare("Source", p.Source, usual.Source)
	compare("Log", p.Log, usual.Log)
	compare("Allow", p.Allow[len(p.Allow)-1], Allow{})
	compare("Door", p.Doors[0], door)
	compare("Knock", p.Doors[0].Knock, door.Knock)
	compare("Keys", p.Keys, Keys{Bound: DefaultBound})
	compare("User", p.Users[0], User{})
}

func FuzzFormat(f *testing.F) {
	for _, text := range samples(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		if p, err := Parse("policy.yaml", data); err == nil {
			again(t, p)
		}
	})
}

// TestFormatRandom formats policies that no person would write.
func TestFormatRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := randomPolicy(t)
		sound(t, p)
		again(t, p)
	})
}

func randomPolicy(t *rapid.T) *Policy {
	coin := func(what string) bool { return rapid.Bool().Draw(t, what) }
	p := New(rapid.SampledFrom([]Posture{Closed, Guard}).Draw(t, "posture"))
	p.Cover = rapid.SampledFrom(Covers()).Draw(t, "cover")
	p.Source = Source{IPv4: rapid.IntRange(1, 32).Draw(t, "ipv4"), IPv6: rapid.IntRange(1, 128).Draw(t, "ipv6")}
	p.Admitted.Mark = Mark(rapid.Uint32().Draw(t, "mark"))
	p.Log.Target = rapid.SampledFrom([]LogTarget{LogKernel, LogNFLOG, LogNone}).Draw(t, "log")
	if p.Log.Target == LogNFLOG {
		p.Log.Group = rapid.Uint16().Draw(t, "group")
	}
	p.Log.Progress = p.Log.Target != LogNone && coin("progress")
	p.Interfaces = rapid.SliceOfNDistinct(randomInterface, 0, 3, rapid.ID).Draw(t, "interfaces")
	for range rapid.IntRange(0, 4).Draw(t, "allow") {
		a := Allow{Interface: randomInterface.Draw(t, "interface")}
		if coin("service") {
			a.Service = randomService(t)
		}
		if coin("from") {
			a.From = randomNetwork.Draw(t, "network")
		}
		p.Allow = append(p.Allow, a)
	}
	keys := coin("keys")
	if keys {
		p.Keys = Keys{Port: Port{UDP, rapid.Uint16Range(1, 1<<15-1).Draw(t, "key port")}, Bound: rapid.SampledFrom([]Bound{BoundOptional, BoundRequired}).Draw(t, "bound")}
		for i := range rapid.IntRange(1, 3).Draw(t, "users") {
			u := User{
				Name: randomName.Draw(t, "user") + fmt.Sprintf("-%d", i), Devices: rapid.SliceOfNDistinct(randomName, 1, 3, rapid.ID).Draw(t, "devices"),
				Networks: rapid.SliceOfNDistinct(randomNetwork, 0, 3, rapid.ID).Draw(t, "networks"),
			}
			if coin("until") {
				u.Until = time.Unix(rapid.Int64Range(1, 7e9).Draw(t, "until"), 0).UTC()
				if coin("whole day") {
					u.Until = u.Until.Truncate(24*time.Hour).AddDate(0, 0, 1)
				}
			}
			p.Users = append(p.Users, u)
		}
	}
	// other returns another port than that of keys.
	other := func(port Port) Port {
		if keys && port.Number == p.Keys.Port.Number {
			port.Number ^= 1 << 15
		}
		return port
	}
	p.Allow = slices.DeleteFunc(p.Allow, func(a Allow) bool {
		return keys && (a.Service.Covers(p.Keys.Port) || a.Service.Covers(Port{TCP, p.Keys.Port.Number}))
	})
	// Doors share no service and no first knock, and so cannot be in conflict.
	for i := range rapid.IntRange(1, 4).Draw(t, "doors") {
		d := NewDoor(rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9_-]{0,25}`).Draw(t, "name") + fmt.Sprintf("-%d", i))
		if i == 0 && coin("odd name") {
			d.Name = rapid.SampledFrom([]string{"null", "true", "no", "y", "e1", "on"}).Draw(t, "name")
		}
		d.Services = rapid.SliceOfNDistinct(randomPort(UDP), 1, 4, rapid.ID).Draw(t, "services")
		for j := range d.Services {
			d.Services[j].Number = uint16(1 + i + 4*j + 16*rapid.IntRange(0, 4000).Draw(t, "number"))
		}
		for j := range d.Services {
			d.Services[j] = other(d.Services[j])
		}
		if i == 0 {
			for j := range p.Users {
				d.Knock.Users = append(d.Knock.Users, p.Users[j].Name)
			}
		} else if keys && coin("key") {
			d.Knock.Users = []string{p.Users[0].Name}
		}
		d.Knock.Sequence = append([]Port{{Protocol: TCP, Number: uint16(i + 1)}}, rapid.SliceOfN(randomPort(ICMP), 0, MaxKnocks-1).Draw(t, "knocks")...)
		for j := range d.Knock.Sequence {
			d.Knock.Sequence[j] = other(d.Knock.Sequence[j])
		}
		if len(d.Knock.Users) > 0 && coin("keys alone") {
			d.Knock.Sequence = nil
		} else {
			if coin("close") {
				d.Knock.Close = append([]Port{other(Port{TCP, uint16(i + 1001)})}, rapid.SliceOfN(randomPort(ICMP), 0, MaxKnocks-1).Draw(t, "closing")...)
				for j := range d.Knock.Close {
					d.Knock.Close[j] = other(d.Knock.Close[j])
				}
			}
			d.Knock.StepTimeout = randomTime(t, MaxStepTimeout)
			d.Knock.Retransmits = rapid.SampledFrom([]Retransmits{RetransmitsIgnore, RetransmitsReset}).Draw(t, "retransmits")
		}
		d.OpenFor = randomTime(t, MaxOpenFor)
		d.Admit = rapid.SampledFrom([]Admit{AdmitOne, AdmitAny}).Draw(t, "admit")
		d.Forfeit = coin("forfeit")
		if len(d.Services) == 1 && coin("forward") {
			d.Forward = netip.AddrPortFrom(randomAddress.Draw(t, "to"), randomPort(UDP).Draw(t, "port").Number)
			d.Masquerade = coin("masquerade")
		}
		if a := randomAddress.Draw(t, "address"); d.HasFamilyOf(a) && coin("own address") {
			d.Address = a
		}
		d.From = slices.DeleteFunc(rapid.SliceOfNDistinct(randomNetwork, 0, 3, rapid.ID).Draw(t, "networks"),
			func(n netip.Prefix) bool { return !d.HasFamilyOf(n.Addr()) })
		if len(d.Knock.Close)+len(d.Knock.Users) > 0 {
			d.OnClose = rapid.SampledFrom([]OnClose{OnCloseKeep, OnCloseCut}).Draw(t, "on close")
		}
		d.Knock.SequencePos, d.Knock.ClosePos = make([]Position, len(d.Knock.Sequence)), make([]Position, len(d.Knock.Close))
		p.Doors = append(p.Doors, d)
	}
	return p
}

// randomName returns names of doors, users and devices, some of which YAML could take
// for something else.
var randomName = rapid.OneOf(rapid.SampledFrom([]string{"null", "true", "no", "y", "e1", "on"}), rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9_-]{0,25}`))

// Names and addresses that YAML could take for something else come often.
var (
	randomInterface = rapid.OneOf(
		rapid.SampledFrom([]string{"eth0", "null", "yes", "on", "1", "0x1f", "1e3", "~", "-", "a,b", "a]", "{", "#", "a#b", "=", "<<", "!x", "&a", "é", "@", "?", "|", ">", "%"}),
		rapid.StringMatching(`[a-z0-9.,\[\]{}#&!|>%@_-]{3,15}`))
	randomAddress = rapid.SampledFrom([]netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.255"),
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1:2:3:4:5:6"), netip.MustParseAddr("fd00::"),
	})
	randomNetwork = rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := randomAddress.Draw(t, "address")
		p, _ := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		return p
	})
)

// randomPort returns TCP ports, and ports of another protocol.
func randomPort(other Protocol) *rapid.Generator[Port] {
	return rapid.Custom(func(t *rapid.T) Port {
		p := Port{TCP, rapid.Uint16Range(1, 65535).Draw(t, "number")}
		if rapid.Bool().Draw(t, "other") {
			if p.Protocol = other; other == ICMP {
				p.Number = 0
			}
		}
		return p
	})
}

func randomService(t *rapid.T) Service {
	protocol := rapid.SampledFrom([]Protocol{TCP, UDP, ICMP, ESP, AH, GRE, VRRP, OSPF, SIT, SCTP, 2, 253}).Draw(t, "protocol")
	if protocol != TCP && protocol != UDP {
		return Service{Protocol: protocol}
	}
	a, b := rapid.Uint16Range(1, 65535).Draw(t, "first"), rapid.Uint16Range(1, 65535).Draw(t, "last")
	return Service{Protocol: protocol, First: min(a, b), Last: max(a, b)}
}

func randomTime(t *rapid.T, most time.Duration) time.Duration {
	return time.Duration(rapid.Int64Range(int64(MinTime/time.Millisecond), int64(most/time.Millisecond)).Draw(t, "time")) * time.Millisecond
}
