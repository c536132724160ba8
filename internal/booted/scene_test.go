//go:build linux

package booted

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/debian"
	"postern/internal/lab/prober"
)

// program is the freshly built Postern, which machines and clients run.
var program string

func TestMain(m *testing.M) {
	lab.Main(func() int {
		dir, err := os.MkdirTemp("", "postern-booted-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "postern")
		return m.Run()
	})
}

// A scene is a Debian machine that hides its sshd, and hosts outside: a prober, and a
// client on a cable of its own.
type scene struct {
	*testing.T
	lab             *lab.Lab
	m               *debian.Machine
	outside, client *lab.Host
	uplink          *lab.Link // the prober's end of its cable
	link            *lab.Link // the machine's end of it
	home            *lab.Link // the machine's end of the client's
	backend         string

	onBoot func(gw *lab.Host) // lays more cables
	more   []netip.AddrPort   // hidden ports besides sshd's
}

const (
	hidden   = 22
	sequence = "41830,7719,52004"
)

// policyFile hides sshd. What is not allowed is closed.
const policyFile = "/etc/postern/policy.yaml"

func (s *scene) policy() string {
	return "version: 1\nposture: closed\nbackend: " + s.backend + `
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [` + sequence + `]}
    open_for: 10s
`
}

// newScene returns a machine that is off, without Postern.
func newScene(t *testing.T, v debian.Variant, backend string) *scene {
	t.Helper()
	s := &scene{T: t, lab: lab.NewT(t), backend: backend}
	s.outside, s.client = s.lab.Host("outside"), s.lab.Host("client")
	s.m = debian.New(t, s.lab, v, func(gw *lab.Host) {
		s.uplink, s.link = s.lab.Connect(s.outside, gw, "192.0.2.0/24", "2001:db8::/64")
		prober.Routes(gw, s.uplink)
		_, s.home = s.lab.Connect(s.client, gw, "203.0.113.0/24", "2001:db8:2::/64")
		if s.onBoot != nil {
			s.onBoot(gw)
		}
	})
	debian.Postern(t, program)
	return s
}

// put puts the program and a policy on the machine's disk.
func (s *scene) put(policy string) {
	s.Helper()
	s.m.Install(program, "/usr/bin/postern", 0o755)
	s.m.Write(policyFile, policy, 0o600)
}

// install has the machine, which is on, hide its sshd from now on.
func (s *scene) install() {
	s.Helper()
	s.m.Run("postern install && postern up --no-confirm")
}

// targets are the hidden ports, sshd's in both families.
func (s *scene) targets() []netip.AddrPort {
	return append([]netip.AddrPort{
		netip.AddrPortFrom(s.link.Addr4(), hidden), netip.AddrPortFrom(s.link.Addr6(), hidden)}, s.more...)
}

// probe has a prober watch the hidden port while f runs, from before until after it.
func (s *scene) probe(before, after time.Duration, f func()) prober.Report {
	s.Helper()
	p, err := prober.Start(s.uplink, s.targets()...)
	if err != nil {
		s.Fatal(err)
	}
	time.Sleep(before)
	f()
	time.Sleep(after)
	r, err := p.Stop()
	if err != nil {
		s.Error(err)
	}
	return r
}

// boot switches the machine on and has a prober watch it until users can log in,
// and for a while more.
func (s *scene) boot() prober.Report {
	s.Helper()
	s.m.Plug()
	return s.probe(20*time.Millisecond, 300*time.Millisecond, s.m.On)
}

// ssh returns what a line prints that the client runs over ssh, through the door.
func (s *scene) ssh(at netip.Addr, line string) (string, error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	proxy := "ProxyCommand=" + s.opens(at, hidden, sequence)
	out, err := s.m.SSH(ctx, s.client, at, line, "-o", proxy).CombinedOutput()
	return string(out), err
}

// opens returns the command by which the client connects through a door, which ssh can
// use.
func (s *scene) opens(at netip.Addr, port uint16, knocks string) string {
	s.Helper()
	return s.adds("door --address " + at.String() + fmt.Sprintf(" --port tcp/%d --knock ", port) + knocks)
}

// adds gives a client of its own to "postern add", and returns the command by which it
// connects to what it has added, by the name of door.
func (s *scene) adds(args string) string {
	s.Helper()
	dir := s.TempDir()
	env := fmt.Sprintf("env HOME=%[1]s XDG_CONFIG_HOME=%[1]s XDG_CACHE_HOME=%[1]s %[2]s ", dir, program)
	if out, err := s.client.Command(s.Context(), "sh", "-c", env+"add "+args).CombinedOutput(); err != nil {
		s.Fatalf("add %s: %v: %s", args, err, out)
	}
	return env + "connect --quiet --timeout 20s door"
}

// hides fails the test unless the policy runs as it should: status finds nothing to
// say, nobody is let in without knocks, and who knocks is.
func (s *scene) hides(when string) {
	s.Helper()
	s.sound(when)
	if r := s.probe(0, 50*time.Millisecond, func() {}); r.Open > 0 {
		s.Errorf("%s: %s", when, r)
	}
	s.letsIn(when, s.home.Addr4())
}

// sound fails the test unless status finds nothing to say.
func (s *scene) sound(when string) {
	s.Helper()
	// The watchdog may be at it.
	out, code := s.m.Status("postern status")
	for deadline := time.Now().Add(5 * time.Second); code != 0 && time.Now().Before(deadline); {
		out, code = s.m.Status("postern status")
	}
	if code != 0 {
		s.Errorf("%s: postern status exits with %d:\n%s", when, code, out)
	}
}

// letsIn fails the test unless a client who knocks at an address can log in.
func (s *scene) letsIn(when string, at netip.Addr) {
	s.Helper()
	if out, err := s.ssh(at, "echo in"); err != nil || strings.TrimSpace(out) != "in" {
		s.Errorf("%s: through the door at %s: %v: %s", when, at, err, out)
	}
}
