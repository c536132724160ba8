package handout

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/firewall/nftables"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// The test binary acts as ssh for the scripts: see actAsSSH.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "ssh" {
		os.Exit(actAsSSH(os.Args[1:]))
	}
	lab.Main(func() int {
		flag.Parse()
		flag.Set("test.parallel", "6") // scripts wait more than they work
		return m.Run()
	})
}

// remoteStatus is the exit status of this ssh, as if from a remote command.
const remoteStatus = 7

// actAsSSH connects. It prints its arguments, how many connection attempts of
// earlier programs are still pending, and the greeting of the service. It does
// not support -G, like some other programs of this name.
func actAsSSH(args []string) int {
	if args[0] == "-G" {
		return 255
	}
	fmt.Printf("%q\n", args)
	network, port := "tcp", "22"
	for strings.HasPrefix(args[0], "-") {
		if args[0] == "-p" {
			args, port = args[1:], args[1]
		} else {
			network += strings.TrimPrefix(args[0], "-")
		}
		args = args[1:]
	}
	attempts := 0
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			fmt.Println(err)
			return 255
		}
		const synSent = "02"
		for _, line := range strings.Split(string(text), "\n")[1:] {
			if f := strings.Fields(line); len(f) > 3 && f[3] == synSent {
				attempts++
			}
		}
	}
	fmt.Println(attempts, "attempts left")
	_, host, _ := strings.Cut("@"+args[0], "@")
	conn, err := net.DialTimeout(network, net.JoinHostPort(host[strings.LastIndexByte(host, '@')+1:], port), 2*time.Second)
	if err != nil {
		fmt.Println(err)
		return 255
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		fmt.Println(err)
		return 255
	}
	fmt.Print(line)
	return remoteStatus
}

const greeting = "welcome"

// A scene is a client, and a server that runs a policy.
type scene struct {
	client, server *lab.Host
	uplink, at     *lab.Link // of the client, and of the server
	wire           *lab.Capture
	policy         *policy.Policy
}

// newScene has a server greet every client that gets through to a door's TCP services. It
// gives every UDP datagram back.
func newScene(t *testing.T, text string) *scene {
	t.Helper()
	l := lab.NewT(t)
	s := &scene{client: l.Host("client"), server: l.Host("server"), policy: parse(t, text)}
	s.uplink, s.at = l.Connect(s.client, s.server, "192.0.2.0/24", "2001:db8::/64")
	// A server may answer only so many refusals a second: this test wants all.
	s.server.Sysctl("net.ipv4.icmp_ratelimit", "0")
	s.server.Sysctl("net.ipv6.icmp.ratelimit", "0")
	b := nftables.Backend{}
	m, err := b.Machine(s.policy)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Apply(t, s.server, b, m)
	if s.wire, err = s.uplink.Capture(opening); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve has the services of all doors answer.
func (s *scene) serve(t *testing.T) {
	t.Helper()
	for _, d := range s.policy.Doors {
		for _, service := range d.Services {
			if service.Protocol == policy.TCP {
				s.greet(t, service.Number)
			} else {
				labtest.EchoUDP(t, s.at, service.Number)
			}
		}
	}
}

// greet serves a port. The service closes the connection after its greeting.
func (s *scene) greet(t *testing.T, port uint16) {
	t.Helper()
	labtest.Serve(t, s.server, "tcp", fmt.Sprintf(":%d", port), func(conn net.Conn) { fmt.Fprintln(conn, greeting) })
}

// opening reports whether a firewall would treat the packet as a knock.
func opening(p *packet.Packet) bool {
	switch {
	case p.TCP != nil:
		return p.TCP.Flags&(packet.SYN|packet.ACK) == packet.SYN
	case p.ICMP != nil:
		return p.Src.Is4() && p.ICMP.Type == packet.EchoRequest || p.Src.Is6() && p.ICMP.Type == packet.EchoRequestV6
	}
	return p.UDP != nil
}

// sent returns what the client has sent since the last call, with the family.
func (s *scene) sent(t *testing.T) []string {
	t.Helper()
	captured, err := s.wire.Drain()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, c := range captured {
		if !c.Out {
			continue
		}
		port := policy.Port{Protocol: policy.ICMP}
		switch {
		case c.TCP != nil:
			port = policy.Port{Protocol: policy.TCP, Number: c.TCP.DstPort}
		case c.UDP != nil:
			port = policy.Port{Protocol: policy.UDP, Number: c.UDP.DstPort}
		}
		all = append(all, familyOf(c.Src)+" "+port.String())
	}
	return all
}

// tries is how often a script may try to open a door. It races the kernel,
// which retransmits a SYN after a second, and loses on a machine that is too
// busy. A faulty script fails every time.
const tries = 5

// openDoor runs a script until it opens a door, and otherwise reports the last
// failure: got is not want, a knock was not one packet or not in order, or
// other packets were sent than after.
func (s *scene) openDoor(t *testing.T, door int, run func() outcome, want outcome, at netip.Addr, after ...policy.Port) {
	t.Helper()
	var wrong string
	for range tries {
		got := run()
		wrong = cmp.Diff(s.inOrder(door, at, after...), s.sent(t))
		if wrong != "" {
			wrong = fmt.Sprintf("what the client sent (-want +got):\n%s", wrong)
		}
		if got != want {
			wrong += fmt.Sprintf("\ngot %+v, want %+v", got, want)
		}
		if wrong == "" {
			return
		}
	}
	t.Errorf("failed %d times; the last time: %s", tries, wrong)
}

// inOrder returns what a script must send: a door's knocks, and then after.
func (s *scene) inOrder(door int, at netip.Addr, after ...policy.Port) []string {
	var want []string
	for _, ports := range [][]policy.Port{s.policy.Doors[door].Knock.Sequence, after} {
		for _, p := range ports {
			want = append(want, familyOf(at)+" "+p.String())
		}
	}
	return want
}

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "-4"
	}
	return "-6"
}

// A machine is what a client has to run a script: a shell and programs, under
// the names by which scripts find them.
type machine struct {
	name     string
	shell    []string
	programs map[string]string // name: the program behind it
}

var machines = []machine{
	{"bash alone", []string{"bash"}, map[string]string{"bash": "bash", "sleep": "sleep", "ping": "ping"}},
	{"dash with nc", []string{"dash"}, map[string]string{"sleep": "sleep", "nc": "nc.openbsd", "ping": "ping", "ping6": "ping"}},
	{"dash with a small nc and perl", []string{"dash"}, map[string]string{"sleep": "sleep", "nc": "busybox", "perl": "perl", "ping": "ping"}},
	{"busybox alone", []string{"busybox", "sh"}, map[string]string{
		"busybox": "busybox", "sleep": "busybox", "nc": "busybox", "ping": "busybox", "ping6": "busybox", "nslookup": "busybox"}},
}

// with returns a machine with one more program.
func with(m machine, name, program string) machine {
	m.name += " and " + name
	m.programs = maps.Clone(m.programs)
	m.programs[name] = program
	return m
}

// program writes a script that stands in for a program which is not installed.
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// install creates the directory that is the machine's PATH, with our ssh in it.
// It returns the words that run a door's script there.
func (m *machine) install(t *testing.T, d *policy.Door) (folder string, words []string) {
	t.Helper()
	folder = t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := func(program, name string) {
		if err := os.Symlink(program, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, program := range m.programs {
		link(look(t, program), name)
	}
	if m.programs["ssh"] == "" {
		link(self, "ssh")
	}
	text, err := ClientSh(d)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "knock.sh")
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	words = append([]string{look(t, m.shell[0])}, m.shell[1:]...)
	return folder, append(words, script)
}

// look finds a program. A missing program is a failure:
// scripts/install-test-tools installs them.
func look(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: run scripts/install-test-tools", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a door's script on the client, with a machine's programs.
func (s *scene) run(t *testing.T, m *machine, door int, args ...string) outcome {
	t.Helper()
	folder, words := m.install(t, &s.policy.Doors[door])
	words = append(words, args...)
	cmd := s.client.Command(t.Context(), words[0], words[1:]...)
	cmd.Env = []string{"PATH=" + folder, "LC_ALL=C"}
	return finish(t, cmd)
}

// outcome is the result of a program.
type outcome struct {
	stdout, stderr string
	status         int
}

func finish(t *testing.T, cmd *lab.Cmd) outcome {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
