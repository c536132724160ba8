package nftables

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// applyingKeys is the variable by which this binary, run once more, applies policies with
// keys until it is killed. It holds which of two is the first.
const applyingKeys = "POSTERN_TEST_APPLYING_KEYS"

// keyedMachine returns one of two machines: the second has a user more.
func keyedMachine(t *testing.T, second bool) (*automaton.Machine, automaton.Keyring) {
	users, opens := "alice: {devices: [laptop]}", "alice"
	if second {
		users, opens = users+", bob: {devices: [laptop]}", "alice, bob"
	}
	m := labtest.Compile(t, Backend{}, labtest.Closed+"keys: {port: udp/40123}\nusers: {"+users+"}\n"+
		"doors: {ssh: {service: tcp/22, knock: {key: ["+opens+"]}, open_for: 1h}}\n")
	ring := automaton.Keyring{Site: key.Site{1}, Devices: map[string]automaton.DeviceKey{
		"alice/laptop": {ID: 1, Secret: key.Secret{1}}, "bob/laptop": {ID: 2, Secret: key.Secret{2}},
	}}
	m.Keys = func() (automaton.Keyring, error) { return ring, nil }
	return m, ring
}

// TestApplyKeysUntilKilled is the other half of TestKillKeys; on its own it does nothing.
func TestApplyKeysUntilKilled(t *testing.T) {
	first := os.Getenv(applyingKeys)
	if first == "" {
		return
	}
	for second := first == "second"; ; second = !second {
		m, _ := keyedMachine(t, second)
		fmt.Println("next")
		if err := (Backend{}).Apply(m); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKillKeys kills a process that adds a user and removes him, again and again: whoever
// is a user before and after always comes in, with each token once, and the other one only
// where both the rules and what verifies tokens know him.
func TestKillKeys(t *testing.T) {
	needBPF(t)
	t.Parallel()
	const kills = 40
	s := newScene(t)
	labtest.Greet(t, s.Gateway, 22, "hello")
	m, ring := keyedMachine(t, true)
	s.Apply(m)
	digests := map[string]bool{} // and whether it is that of the second
	for _, second := range []bool{false, true} {
		m, _ := keyedMachine(t, second)
		digests[Backend{}.Digest(m)] = second
	}
	alice, bob := credential(ring, "alice/laptop", "ssh"), credential(ring, "bob/laptop", "ssh")
	wait := newTokens(t)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	time.Sleep(200 * time.Millisecond)
	src := labtest.On(s.Outside, labtest.IPv4)
	opens := func(token key.Token) bool {
		t.Helper()
		s.Send(envelope("udp").in(s, src, token[:]))
		open := s.Try(src, labtest.TCP(22)) == labtest.SYNACK
		if s.Send(envelope("udp").in(s, src, token[:])); s.Try(src, labtest.TCP(22)) == labtest.SYNACK {
			t.Error("a token opens twice")
		}
		return open
	}
	left := map[bool]int{}
	for i := range kills {
		helper := s.Gateway.Command(t.Context(), os.Args[0], "-test.run=^TestApplyKeysUntilKilled$", "-test.count=1")
		helper.Env = append(os.Environ(), applyingKeys+"="+[]string{"first", "second"}[i%2])
		killSoon(t, helper, random, 1+random.IntN(2))

		status := s.Inspect()
		second, known := digests[status.Digest]
		if !known || len(status.Bare) > 0 {
			t.Fatalf("kill %d left the rule set %q, and no program on %v", i, status.Digest, status.Bare)
		}
		left[second]++
		if !opens(alice.Token(wait.next(), netip.Addr{}, key.Lane4)) {
			t.Fatalf("kill %d: who is a user before and after is shut out", i)
		}
		verified := false
		for _, k := range status.Keys {
			verified = verified || k.Device == bob.Device
		}
		// A pair that has just come to be takes no token for the first seconds.
		if opens(bob.Token(wait.next(), netip.Addr{}, key.Lane4)) && !(second && verified) {
			t.Fatalf("kill %d: who is no user comes in", i)
		}
	}
	t.Logf("what %d kills left: %v", kills, left)
	if left[true] == 0 || left[false] == 0 {
		t.Error("the kills do not hit both")
	}
	s.Apply(m)
	if status := s.Inspect(); status.Altered || len(status.Keys) != 2 {
		t.Errorf("applied once more: altered %v, keys %v", status.Altered, status.Keys)
	}
	if err := s.Gateway.Do(Backend{}.Remove); err != nil {
		t.Fatal(err)
	}
	if err := s.Gateway.Do(func() error {
		r, err := bpf.Find()
		if err == nil && r.Loaded() {
			t.Error("down leaves a program")
		}
		r.Close()
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// killSoon starts a helper and kills it at some moment, after it has said so many lines.
func killSoon(t *testing.T, helper *lab.Cmd, random *rand.Rand, lines int) {
	t.Helper()
	stdout, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	helper.Stderr = os.Stderr
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(stdout)
	for range lines {
		if _, err := said.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Duration(random.Int64N(int64(40 * time.Millisecond))))
	if err := helper.Process.Kill(); err != nil {
		t.Fatalf("the helper has ended by itself: %v", err)
	}
	helper.Wait()
}
