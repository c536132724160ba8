package handout

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/policy"
)

// Doors for the scripts. The first two are the strictest possible: one packet
// too many sends the client back to the start, or costs the grant.
const (
	strictTCP = `version: 1
posture: closed
log: {target: none}
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [1234, 2345, 3456], retransmits: reset}
    forfeit: true
`
	strictMixed = `version: 1
posture: closed
log: {target: none}
doors:
  ssh:
    service: tcp/2222
    knock: {sequence: [20914, udp/7061, icmp/echo, 41230], retransmits: reset}
    forfeit: true
`
	refusing = `version: 1
posture: closed
cover: reset
log: {target: none}
doors:
  ssh:
    service: tcp/2222
    knock: {sequence: [udp/7061, 20914, icmp/echo, 41230]}
`
)

// TestScript opens doors with only the programs that a machine has. No packet
// may be sent that the kernel did not have to send.
func TestScript(t *testing.T) {
	for name, text := range map[string]string{"TCP, reset": strictTCP, "mixed, reset": strictMixed, "mixed, refused": refusing} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, text)
			s.serve(t)
			service := s.policy.Doors[0].Services[0]
			for i := range machines {
				m := &machines[i]
				for _, at := range []netip.Addr{s.at.Addr4(), s.at.Addr6()} {
					t.Run(fmt.Sprintf("%s, IPv%s", m.name, familyOf(at)[1:]), func(t *testing.T) {
						args := []string{"somebody@" + at.String(), "ls", "a b"}
						passed := append([]string{familyOf(at)}, args...)
						if service.Number != 22 {
							passed = append([]string{familyOf(at), "-p", "2222"}, args...)
							args = append([]string{"-s"}, args...)
						}
						want := outcome{fmt.Sprintf("%q\n0 attempts left\n%s\n", passed, greeting), "", remoteStatus}
						s.openDoor(t, 0, func() outcome { return s.run(t, m, 0, args...) }, want, at, service)
					})
				}
			}
		})
	}
}

// TestKnockOnly: the script knocks and does not run ssh.
func TestKnockOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t, `version: 1
posture: closed
log: {target: none}
doors:
  ssh: {service: tcp/22, knock: {sequence: [1234, 2345]}}
  vpn: {service: udp/51820, knock: {sequence: [3456, udp/4567]}}
  page: {service: tcp/8443, knock: {sequence: [5678, 6789]}}
`)
	s.serve(t)
	m, at := &machines[0], s.at.Addr4()

	want := outcome{"", "knock.sh: knocked at 192.0.2.2: connect to tcp/22 within 10s\n", 0}
	s.openDoor(t, 0, func() outcome { return s.run(t, m, 0, "-n", at.String()) }, want, at)
	s.expectAnswer(t, "tcp", netip.AddrPortFrom(at, 22))
	s.sent(t)

	want.stderr = "knock.sh: knocked at 192.0.2.2: connect to udp/51820 within 10s\n"
	s.openDoor(t, 1, func() outcome { return s.run(t, m, 1, at.String()) }, want, at)
	s.expectAnswer(t, "udp", netip.AddrPortFrom(at, 51820))
	s.sent(t)

	// A port that may have any service: ssh does not run unless asked to.
	want.stderr = "knock.sh: knocked at 192.0.2.2: connect to tcp/8443 within 10s\n"
	s.openDoor(t, 2, func() outcome { return s.run(t, m, 2, at.String()) }, want, at)
	s.expectAnswer(t, "tcp", netip.AddrPortFrom(at, 8443))
}

// TestDoubt: a machine that cannot look a name up says so; it does not claim to
// have knocked.
func TestDoubt(t *testing.T) {
	t.Parallel()
	s := newScene(t, strictTCP)
	want := outcome{"", "knock.sh: knocked at nowhere.invalid, if it has an address: connect to tcp/22 within 10s\n", 0}
	if got := s.run(t, &machines[0], 0, "-n", "nowhere.invalid"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func (s *scene) expectAnswer(t *testing.T, network string, to netip.AddrPort) {
	t.Helper()
	conn, err := s.client.Dial(t.Context(), network, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if network == "udp" {
		fmt.Fprintln(conn, greeting)
	}
	b := make([]byte, 100)
	if n, err := conn.Read(b); err != nil || string(b[:n]) != greeting+"\n" {
		t.Errorf("%s says %q (%v)", to, b[:n], err)
	}
}

// TestName: a name has two addresses. Knocks and ssh must use the same one.
func TestName(t *testing.T) {
	t.Parallel()
	s := newScene(t, strictTCP)
	s.serve(t)
	hosts := filepath.Join(t.TempDir(), "hosts")
	text := fmt.Sprintf("%s two.example\n%s two.example\n%s four.example\n", s.at.Addr4(), s.at.Addr6(), s.at.Addr4())
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	withGetent := machine{"with getent", []string{"dash"}, map[string]string{
		"sleep": "sleep", "nc": "nc.openbsd", "getent": "getent"}}
	withBash := machines[0]
	cygwin := with(withBash, "getent", "false") // 1: it has no "hosts"
	macOS := with(withBash, "dscacheutil", program(t, `[ "$5" != four.example ] || printf 'name: %s\nip_address: 192.0.2.2\n\n' "$5"`))
	for _, test := range []struct {
		machine *machine
		args    string
		at      netip.Addr // the address that must be used
		refusal string
	}{
		{&withGetent, "-4 two.example", s.at.Addr4(), ""},
		{&withGetent, "-6 two.example", s.at.Addr6(), ""},
		{&withGetent, "two.example", s.at.Addr6(), ""}, // as any program would choose
		{&withGetent, "four.example", s.at.Addr4(), ""},
		{&withGetent, "-6 four.example", netip.Addr{}, "no address of four.example is known for -6"},
		{&withGetent, "-6 192.0.2.2", netip.Addr{}, "192.0.2.2 is an IPv4 address: leave out -6"},
		{&withGetent, "nowhere.invalid", netip.Addr{}, "no address of nowhere.invalid is known\n"},
		{&withGetent, "-n nowhere.invalid", netip.Addr{}, "no address of nowhere.invalid is known\n"},
		{&withGetent, "-6 feed.dead.beef.cafe", netip.Addr{}, "no address of feed.dead.beef.cafe is known\n"},
		{&withBash, "four.example", s.at.Addr4(), ""},
		{&withBash, "-4 four.example", netip.Addr{}, "no address of four.example is known for -4: write the address instead of the name"},
		{&withBash, "-4 2001:db8::2", netip.Addr{}, "2001:db8::2 is an IPv6 address: leave out -4"},
		{&withBash, "-4 feed.dead.beef.cafe", netip.Addr{}, "no address of feed.dead.beef.cafe is known for -4"},
		{&cygwin, "four.example", s.at.Addr4(), ""},
		{&macOS, "-4 four.example", s.at.Addr4(), ""},
		{&macOS, "-n nowhere.invalid", netip.Addr{}, "no address of nowhere.invalid is known\n"},
	} {
		t.Run(test.machine.name+" "+test.args, func(t *testing.T) {
			run := func() outcome {
				folder, words := test.machine.install(t, &s.policy.Doors[0])
				return finish(t, s.elsewhere(t, hosts, "/etc/hosts", folder, append(words, strings.Fields(test.args)...)))
			}
			if test.refusal != "" {
				if got := run(); got.status != 2 || !strings.HasPrefix(got.stderr, "knock.sh: "+test.refusal) {
					t.Errorf("got %+v, want %q", got, test.refusal)
				}
				if sent := s.sent(t); len(sent) > 0 {
					t.Errorf("it has sent %v", sent)
				}
				return
			}
			args := strings.Fields(test.args)
			args = []string{familyOf(test.at), args[len(args)-1]}
			if test.machine == &withBash || test.machine == &cygwin { // it cannot find out the family, and need not
				args = args[1:]
			}
			want := outcome{fmt.Sprintf("%q\n0 attempts left\n%s\n", args, greeting), "", remoteStatus}
			s.openDoor(t, 0, run, want, test.at, policy.Port{Protocol: policy.TCP, Number: 22})
		})
	}
}

// TestUsage runs everything that only prints, with every shell.
func TestUsage(t *testing.T) {
	p := parse(t, `version: 1
posture: closed
doors:
  both: {service: tcp/22, knock: {sequence: [1234, 2345]}}
  four: {service: udp/53, knock: {sequence: [1235, 2345]}, from: 192.0.2.0/24}
  page: {service: tcp/8443, knock: {sequence: [1236, 2345]}}
`)
	for i := range machines {
		m := &machines[i]
		t.Run(m.name, func(t *testing.T) {
			for _, test := range []struct {
				door           int
				args           []string
				stdout, stderr string // their beginnings
				status         int
			}{
				{0, []string{"--help"}, "usage: knock.sh [-4 | -6] [-n] [USER@]HOST [ARGUMENT...]\n", "", 0},
				{0, []string{"-4", "-n", "-h"}, "usage: knock.sh", "", 0},
				{0, nil, "", "knock.sh: no host given: see knock.sh --help\n", 2},
				{0, []string{"-x", "host"}, "", "knock.sh: unknown option -x: see knock.sh --help\n", 2},
				{0, []string{"user@-oProxyCommand=id"}, "", "knock.sh: \"user@-oProxyCommand=id\" is not a host: see knock.sh --help\n", 2},
				{0, []string{"-n", ""}, "", "knock.sh: \"\" is not a host: see knock.sh --help\n", 2},
				{0, []string{"user@"}, "", "knock.sh: \"user@\" is not a host: see knock.sh --help\n", 2},
				{1, []string{"--help"}, "usage: knock.sh [-4 | -6] HOST\n", "", 0},
				{1, []string{"-6", "192.0.2.1"}, "", "knock.sh: this door opens for IPv4 only\n", 2},
				{1, []string{"2001:db8::1"}, "", "knock.sh: 2001:db8::1 is an IPv6 address: this door opens for IPv4 only\n", 2},
				{1, []string{"-n", "192.0.2.1"}, "", "knock.sh: unknown option -n: see knock.sh --help\n", 2},
				{1, []string{"192.0.2.1", "ls"}, "", "knock.sh: give only one host: see knock.sh --help\n", 2},
				{1, []string{""}, "", "knock.sh: \"\" is not a host: see knock.sh --help\n", 2},
				{2, []string{"--help"}, "usage: knock.sh [-4 | -6] HOST\n       knock.sh [-4 | -6] -s [USER@]HOST [ARGUMENT...]\n", "", 0},
				{2, []string{"192.0.2.1", "ls"}, "", "knock.sh: arguments after HOST are for ssh, which this run does not start: see knock.sh --help\n", 2},
				{2, []string{"--ssh", "user@"}, "", "knock.sh: \"user@\" is not a host: see knock.sh --help\n", 2},
			} {
				folder, words := m.install(t, &p.Doors[test.door])
				words = append(words, test.args...)
				cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
				cmd.Env = []string{"PATH=" + folder}
				var stdout, stderr strings.Builder
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
					t.Fatal(err)
				}
				if !begins(stdout.String(), test.stdout) || !begins(stderr.String(), test.stderr) || cmd.ProcessState.ExitCode() != test.status {
					t.Errorf("door %d, %q: status %d\nstdout: %s\nstderr: %s", test.door, test.args, cmd.ProcessState.ExitCode(), &stdout, &stderr)
				}
			}
		})
	}
}

// begins reports whether text begins with want; an empty want means empty text.
func begins(text, want string) bool {
	return strings.HasPrefix(text, want) && (want != "" || text == "")
}
