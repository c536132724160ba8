//go:build linux

package booted

import (
	"context"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/lab/debian"
	"postern/internal/packet"
)

const keyPort = 40123

// TestKeys reboots a machine whose sshd a key opens. From power-on until long after, a
// prober that sends again all tokens that were recorded before is not let in, from the
// same address; the next token of the key's owner opens the door. What runs in the units'
// sandbox is what verifies, also on an interface that comes later.
func TestKeys(t *testing.T) {
	for _, on := range []struct {
		variant debian.Variant
		backend string
	}{{debian.Plain, "nftables"}, {debian.Trixie, "nftables"}, {debian.Plain, "iptables"}} {
		t.Run(string(on.variant)+"/"+on.backend, func(t *testing.T) {
			s := newScene(t, on.variant, on.backend)
			// A grant that a replay got before sshd listens is still there when it does.
			s.put(`version: 1
posture: closed
backend: ` + on.backend + `
keys: {port: udp/40123}
users: {alice: {devices: [laptop]}}
doors: {ssh: {service: tcp/22, knock: {key: [alice]}, open_for: 1m, admit: any}}
`)
			s.m.On()
			k := newKeyed(s)
			s.install()
			k.record()
			k.opens("at first", 60*time.Second)
			for _, way := range []struct {
				name string
				off  func()
			}{{"reboot", s.m.Off}, {"power cut", s.m.Cut}} {
				k.hides("before a " + way.name)
				way.off()
				recorded := k.recorded()
				s.m.Plug()
				k.record()
				var took time.Duration
				var owner sync.WaitGroup
				replays := k.replay(recorded)
				began := time.Now()
				owner.Go(func() { // over IPv6, as replays over IPv4 take what IPv4 is granted
					took = k.connect(s.home.Addr6(), "60s", began)
				})
				r := s.probe(20*time.Millisecond, 300*time.Millisecond, s.m.On)
				booted := time.Since(began)
				owner.Wait()
				time.Sleep(6 * time.Second) // the window ahead is over for what comes from IPv4 alone, too
				sent, in := replays()
				t.Logf("%s: %s; login after %s, the first token opened after %s; %d tokens recorded, sent %d times, let in %d times",
					way.name, r, booted.Round(time.Millisecond), took.Round(time.Millisecond), len(recorded), sent, in)
				if r.Open > 0 {
					t.Errorf("open after a %s", way.name)
				}
				if in > 0 || len(recorded) < 2 {
					t.Errorf("%d tokens of before the %s have let in %d times", len(recorded), way.name, in)
				}
				if took == 0 {
					t.Errorf("after a %s the key has opened nothing", way.name)
				}
				if failed := s.m.Failed(); failed != "" {
					t.Errorf("failed units:\n%s", failed)
				}
				k.hides("after a " + way.name)
				if in := k.send(k.recorded()...); in {
					t.Errorf("after a %s: a token opens the door twice", way.name)
				}
			}
			k.late()
		})
	}
}

// keyed is a scene whose door a key opens.
type keyed struct {
	*scene
	program string // by which the client connects, over IPv4 and IPv6
	six     string

	mu     sync.Mutex
	tokens map[string]bool // that were recorded
}

// newKeyed gives the client a key of the machine, which is on.
func newKeyed(s *scene) *keyed {
	s.Helper()
	s.m.Run("postern user add alice laptop --host " + s.home.Addr4().String())
	return &keyed{scene: s, program: s.byKey(s.home.Addr4()), six: s.byKey(s.home.Addr6()), tokens: map[string]bool{}}
}

// byKey returns the command by which the client connects to an address of the machine by
// its key.
func (s *scene) byKey(at netip.Addr) string {
	s.Helper()
	link := s.m.Run("postern user show alice laptop --host " + at.String() + " 2>/dev/null")
	return s.adds("'" + strings.TrimSpace(link) + "' door")
}

// record has all tokens that pass the client's cable recorded, until the machine is off.
func (k *keyed) record() {
	k.Helper()
	_, err := k.home.Peer.Capture(func(p *packet.Packet) bool {
		if p.UDP != nil && p.UDP.DstPort == keyPort {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.tokens[string(p.Payload)] = true
		}
		return false
	})
	if err != nil {
		k.Fatal(err)
	}
}

// recorded returns all tokens that were recorded so far.
func (k *keyed) recorded() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.tokens))
}

// hides fails the test unless status finds nothing to say, nobody is let in without a
// token, and the client is.
func (k *keyed) hides(when string) {
	k.Helper()
	k.sound(when)
	k.m.Run("postern revoke --all")
	if r := k.probe(0, 50*time.Millisecond, func() {}); r.Open > 0 {
		k.Errorf("%s: %s", when, r)
	}
	k.opens(when, 20*time.Second)
	k.m.Run("postern revoke --all")
}

// opens fails the test unless the client gets in by its key.
func (k *keyed) opens(when string, within time.Duration) {
	k.Helper()
	if took := k.connect(k.home.Addr4(), within.String(), time.Now()); took == 0 {
		k.Errorf("%s: the key has not opened the door in %s", when, within)
	}
}

// connect has the client connect by its key, and returns how long after began it was let
// in, or 0.
func (k *keyed) connect(at netip.Addr, within string, began time.Time) time.Duration {
	program := k.program
	if at.Is6() {
		program = k.six
	}
	program = strings.Replace(program, "--timeout 20s", "--timeout "+within, 1)
	ctx, cancel := context.WithCancel(k.Context())
	defer cancel()
	cmd := k.client.Command(ctx, "sh", "-c", "exec "+program)
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return 0
	}
	defer cmd.Wait()
	defer cancel()
	greeting := make([]byte, 4) // sshd speaks first
	if io.ReadFull(out, greeting); string(greeting) != "SSH-" {
		return 0
	}
	return time.Since(began)
}

// replay sends tokens from the client's IPv4 address, again and again, and tries to
// connect each time, until the returned function is called: that returns how often
// each was sent, and how often a connection came about.
func (k *keyed) replay(tokens []string) (stop func() (sent, in int)) {
	quit, done := make(chan struct{}), make(chan struct{})
	var sent, in int
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
			}
			if sent++; k.send(tokens...) {
				in++
			}
		}
	}()
	return func() (int, int) {
		close(quit)
		<-done
		return sent, in
	}
}

// send sends tokens from the client's IPv4 address, and reports whether it can connect
// then.
func (k *keyed) send(tokens ...string) bool {
	at := k.home.Addr4()
	if conn, err := k.client.Dial(k.Context(), "udp", netip.AddrPortFrom(at, keyPort)); err == nil {
		for _, token := range tokens {
			io.WriteString(conn, token)
		}
		conn.Close()
	}
	ctx, cancel := context.WithTimeout(k.Context(), 50*time.Millisecond)
	defer cancel()
	conn, err := k.client.Dial(ctx, "tcp", netip.AddrPortFrom(at, hidden))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// late fails the test unless the key opens the door by way of an interface that comes
// after the boot.
func (k *keyed) late() {
	k.Helper()
	_, k.home = k.lab.Connect(k.client, k.m.Host(), "198.51.100.0/24", "2001:db8:3::/64")
	if err := k.lab.Err(); err != nil {
		k.Fatal(err)
	}
	k.program = k.byKey(k.home.Addr4())
	k.opens("by way of an interface that came later", 20*time.Second)
	k.sound("with an interface that came later")
}
