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

// A scene is a Debian machine that hides its sshd, and a host outside.
type scene struct {
	*testing.T
	lab     *lab.Lab
	m       *debian.Machine
	outside *lab.Host
	uplink  *lab.Link // the outside's end of the cable
	link    *lab.Link // the machine's end
	backend string
}

const hidden = 22

// policyFile hides sshd. What is not allowed is closed.
const policyFile = "/etc/postern/policy.yaml"

func (s *scene) policy() string {
	return "version: 1\nposture: closed\nbackend: " + s.backend + `
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [41830, 7719, 52004]}
    open_for: 10s
`
}

// newScene returns a machine that is off, with Postern on its disk and nothing
// more.
func newScene(t *testing.T, v debian.Variant, backend string) *scene {
	t.Helper()
	s := &scene{T: t, lab: lab.NewT(t), backend: backend}
	s.outside = s.lab.Host("outside")
	s.m = debian.New(t, s.lab, v, func(gw *lab.Host) {
		s.uplink, s.link = s.lab.Connect(s.outside, gw, "192.0.2.0/24", "2001:db8::/64")
		prober.Routes(gw, s.uplink)
	})
	debian.Postern(t, program)
	s.m.Install(program, "/usr/bin/postern", 0o755)
	s.m.Write(policyFile, s.policy(), 0o600)
	return s
}

// install has the machine, which is on, hide its sshd from now on.
func (s *scene) install() {
	s.Helper()
	s.m.Run("postern install || true; postern up --yes")
}

// targets are the hidden port, in both families.
func (s *scene) targets() []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(s.link.Addr4(), hidden), netip.AddrPortFrom(s.link.Addr6(), hidden)}
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

// ssh returns what a line prints that a client runs over ssh, through the door.
func (s *scene) ssh(line string) (string, error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	out, err := s.m.SSH(ctx, s.outside, s.link.Addr4(), line, "-o", "ProxyCommand="+s.knocks()).CombinedOutput()
	return string(out), err
}

// knocks is the command that connects through the door, which ssh can use.
func (s *scene) knocks() string {
	s.Helper()
	dir := s.TempDir()
	env := fmt.Sprintf("env HOME=%[1]s XDG_CONFIG_HOME=%[1]s XDG_CACHE_HOME=%[1]s %[2]s ", dir, program)
	out, err := s.outside.Command(s.Context(), "sh", "-c",
		env+"add gw --address "+s.link.Addr4().String()+" --knock 41830,7719,52004").CombinedOutput()
	if err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	return env + "connect --quiet gw"
}

// hides fails the test unless the policy runs as it should: status finds nothing to
// say, nobody is let in without knocks, and who knocks is.
func (s *scene) hides(when string) {
	s.Helper()
	if out, code := s.m.Status("postern status"); code != 0 {
		s.Errorf("%s: postern status exits with %d:\n%s", when, code, out)
	}
	if r := s.probe(0, 50*time.Millisecond, func() {}); r.Open > 0 {
		s.Errorf("%s: %s", when, r)
	}
	if out, err := s.ssh("echo in"); err != nil || strings.TrimSpace(out) != "in" {
		s.Errorf("%s: through the door: %v: %s", when, err, out)
	}
}
