package nftables

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/conformance"
	"postern/internal/key"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

const tokenPort = 40123

// An envelope is a way to carry a token.
type envelope string

var envelopes = []envelope{"udp", "ping", "syn"}

// in returns a packet with a payload.
func (e envelope) in(s *scene, from netip.Addr, payload []byte) *packet.Packet {
	to := map[envelope]func() *packet.Packet{
		"udp":  func() *packet.Packet { return s.ToGateway(from, labtest.UDP(tokenPort)) },
		"ping": func() *packet.Packet { return s.ToGateway(from, labtest.Echo) },
		"syn":  func() *packet.Packet { return s.ToGateway(from, labtest.TCP(tokenPort)) },
		// of a system without timestamps
		"short syn": func() *packet.Packet { return s.ToGateway(from, labtest.TCP(tokenPort)) },
	}
	p := to[e]()
	if options := map[envelope]int{"syn": 20, "short syn": 12}[e]; options > 0 {
		p.TCP.Options = bytes.Repeat([]byte{1}, options)
	}
	p.Payload = payload
	return p
}

func TestTokens(t *testing.T) { conformance.Tokens(t, Backend{}) }

// TestTokensComeAndGo: what verifies tokens comes and goes with the rules.
func TestTokensComeAndGo(t *testing.T) {
	conformance.NeedBPF(t)
	t.Parallel()
	s := newScene(t)
	const doors = labtest.Closed + "keys: {port: udp/40123}\nusers: {alice: {devices: [laptop, phone]}}\n" +
		"doors: {ssh: {service: tcp/22, knock: {key: [alice]}, open_for: 1h}}\n"
	m := labtest.Compile(t, s.Backend, doors)
	ring := labtest.Keys(m)
	labtest.Greet(t, s.Gateway, 22, "hello")
	src := labtest.On(s.Outside, labtest.IPv4)
	laptop, phone := labtest.Credential(ring, "alice/laptop", "ssh"), labtest.Credential(ring, "alice/phone", "ssh")
	attached := func() (names []string) {
		t.Helper()
		if err := s.Gateway.Do(func() error {
			r, err := bpf.Find()
			if err != nil {
				return err
			}
			defer r.Close()
			for _, i := range r.Interfaces() {
				if i.Attached {
					names = append(names, i.Name)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return names
	}
	do := func(f func() error) {
		t.Helper()
		if err := s.Gateway.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	s.Apply(m)
	wait := labtest.NewTimes()
	try := func(c key.Credential, want labtest.Answer, why string) {
		t.Helper()
		token := c.Token(wait.Next(), netip.Addr{}, key.Lane4)
		s.Send(envelope("udp").in(s, src, token[:]))
		s.Expect(t, src, labtest.TCP(22), want, why)
	}
	time.Sleep(200 * time.Millisecond)
	try(laptop, labtest.SYNACK, "loaded")

	// Others take the rules; the program that runs keeps its codes.
	do(func() error { return loseAndRestore(m) })
	try(laptop, labtest.SYNACK, "restored")
	if status := s.Inspect(); status.Altered {
		t.Error("restored, and altered")
	}

	// A device is revoked. What others have said since stays.
	do(func() error { return Backend{}.Forget(ring.Devices["alice/phone"].ID) })
	try(phone, labtest.Silence, "revoked")
	try(laptop, labtest.SYNACK, "another device was revoked")
	if status := s.Inspect(); status.Altered || len(status.Keys) != 1 || len(status.Keys[0].Opened) != 1 || status.Keys[0].Opened[0].Source != src {
		t.Errorf("altered %v, keys %+v", status.Altered, status.Keys)
	}

	// The same policy again: the codes and the last times stay.
	before := laptop.Token(wait.Next(), netip.Addr{}, key.Lane4)
	s.Send(envelope("udp").in(s, src, before[:]))
	s.Apply(m)
	s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "granted before")
	s.Send(envelope("udp").in(s, src, before[:]))
	s.Expect(t, src, labtest.TCP(22), labtest.Silence, "replayed after")
	try(laptop, labtest.SYNACK, "loaded again")

	// An interface that comes later, when a device has another key already.
	ring.Devices["alice/phone"] = automaton.DeviceKey{ID: key.NewDevice(), Secret: key.NewSecret()}
	phone = labtest.Credential(ring, "alice/phone", "ssh")
	_, late := s.Connect(s.Client, s.Gateway, "198.18.0.0/24", "2001:db8:18::/64")
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if status := s.Inspect(); !slices.Equal(status.Bare, []string{late.Name}) {
		t.Errorf("bare: %v", status.Bare)
	}
	do(func() error { return Backend{}.VerifyEverywhere(m) })
	if status := s.Inspect(); len(status.Bare) > 0 || len(attached()) != 2 || status.Altered {
		t.Errorf("bare: %v, attached: %v, altered: %v", status.Bare, attached(), status.Altered)
	}
	wait = labtest.NewTimes()
	try(phone, labtest.SYNACK, "a key that is younger than the rules")
	try(laptop, labtest.SYNACK, "a key that is as old as the rules")

	// The codes are gone.
	do(func() error { return Backend{}.edit(func(all *batch) { all.flushSet("keys") }) })
	try(laptop, labtest.Silence, "no code is known")
	if !s.Inspect().Altered {
		t.Error("nobody notices that the codes are gone")
	}

	// The keys cannot be read: hidden all the same.
	m.Keys = func() (automaton.Keyring, error) { return automaton.Keyring{}, fmt.Errorf("gone") }
	if err := s.Gateway.Do(func() error { return Backend{}.Apply(m) }); err == nil {
		t.Error("no error where there are no keys")
	}
	try(laptop, labtest.Silence, "no keys")

	s.Up(labtest.Closed + "early_drop: false\ndoors: {ssh: {service: tcp/22, knock: {sequence: [1]}}}\n")
	if left := attached(); len(left) > 0 {
		t.Errorf("a policy without keys leaves the program on %v", left)
	}
	labtest.Keys(m)
	s.Apply(m)
	do(Backend{}.Remove)
	if left := attached(); len(left) > 0 {
		t.Errorf("down leaves the program on %v", left)
	}
}

// TestOpened: which key has opened a door for whom is known in both families, when other
// rules are loaded, too. A token that opens nothing is not noted, and a grant that others
// give is not the key's.
func TestOpened(t *testing.T) {
	conformance.NeedBPF(t)
	t.Parallel()
	s := newScene(t)
	const doors = "keys: {port: udp/40123}\nusers: {alice: {devices: [laptop]}, bob: {devices: [phone], networks: [203.0.113.0/24]}}\n" +
		"doors: {ssh: {service: tcp/22, knock: {key: [alice, bob], sequence: [1, 2]}, open_for: 1h, from: [198.51.0.0/17, \"3fff::/20\"]}}\n"
	m := labtest.Compile(t, s.Backend, labtest.Closed+doors)
	ring := labtest.Keys(m)
	s.Apply(m)
	wait := labtest.NewTimes()
	send := func(from netip.Addr, device string) {
		token := labtest.Credential(ring, device, "ssh").Token(wait.Next(), netip.Addr{}, key.Lane4)
		s.Send(envelope("udp").in(s, from, token[:]))
	}
	four, six, knocked := s.NewAddress(labtest.IPv4), s.NewAddress(labtest.IPv6), s.NewAddress(labtest.IPv4)
	send(four, "alice/laptop")
	send(six, "alice/laptop")
	send(netip.MustParseAddr("198.51.200.1"), "alice/laptop") // whom the door is not for
	send(four, "bob/phone")                                   // from elsewhere
	s.Knock(knocked, labtest.TCP(1), labtest.TCP(2))
	check := func(why string, want ...netip.Addr) {
		t.Helper()
		status := s.Inspect()
		givers, got := firewall.GiversOf(status.Keys), []netip.Addr{}
		for _, g := range status.Grants {
			if by := givers.Of(g, "ssh"); by != nil && by.Device == ring.Devices["alice/laptop"].ID {
				got = append(got, g.Source)
			}
		}
		if !slices.Equal(got, want) || len(status.Grants) != 3 {
			t.Errorf("%s: the key has given grants to %v, want %v, of %+v", why, got, want, status.Grants)
		}
		for _, use := range status.Keys {
			if use.Device == ring.Devices["alice/laptop"].ID != (len(use.Opened) == 2) {
				t.Errorf("%s: %+v", why, use)
			}
		}
	}
	check("granted", four, six)
	m2 := labtest.Compile(t, s.Backend, labtest.Closed+"cover: reset\n"+doors)
	m2.Keys = m.Keys
	s.Apply(m2)
	check("under other rules", four, six)
	time.Sleep(1100 * time.Millisecond) // as much may be between a grant and what is noted of it
	if err := s.Gateway.Do(func() error { return Backend{}.Grant(m2, &m2.Doors[0], four, time.Hour) }); err != nil {
		t.Fatal(err)
	}
	check("given by hand", six)
}

// TestLogTokens: a right token leaves a line that names its maker, and no other does.
func TestLogTokens(t *testing.T) {
	conformance.NeedBPF(t)
	t.Parallel()
	s := newScene(t)
	m := labtest.Compile(t, s.Backend, "version: 1\nposture: closed\nlog: {target: nflog, group: 8}\nkeys: {port: udp/40123}\n"+
		"users: {alice: {devices: [laptop]}, bob: {devices: [phone], networks: 203.0.113.0/24}}\n"+
		"doors: {ssh: {service: tcp/22, knock: {key: [alice, bob]}, from: [198.51.0.0/17, \"3fff::/20\"]}}\n")
	ring := labtest.Keys(m)
	s.Apply(m)
	log := readLog(t, s.Gateway, 8)
	wait := labtest.NewTimes()
	src := s.NewAddress(labtest.IPv4)
	send := func(from netip.Addr, device string) {
		token := labtest.Credential(ring, device, "ssh").Token(wait.Next(), netip.Addr{}, key.Lane4)
		s.Send(envelope("udp").in(s, from, token[:]))
	}
	send(src, "bob/phone")                                    // from elsewhere
	send(netip.MustParseAddr("198.51.200.1"), "alice/laptop") // whom the door is not for
	s.Send(envelope("udp").in(s, src, make([]byte, key.TokenSize)))
	send(src, "alice/laptop")
	select {
	case line := <-log:
		if want := (logLineRead{"Key accepted!: alice/laptop ssh ", src}); line != want {
			t.Errorf("logged: %+v, want %+v", line, want)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing is logged")
	}
}

// loseAndRestore deletes the table, as others may, and has a Keeper restore the rules.
func loseAndRestore(m *automaton.Machine) error {
	keeper, err := Backend{}.Keep()
	if err != nil {
		return err
	}
	defer keeper.Close()
	var all batch
	all.delTable()
	if err := all.commit(nil, 0); err != nil {
		return err
	}
	_, err = keeper.Restore(m)
	return err
}
