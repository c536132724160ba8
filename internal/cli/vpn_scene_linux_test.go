package cli

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/openssh"
	"postern/internal/packet"
)

// A vpnScene is a server with OpenVPN behind a door, a client of it, and another
// who scans the server.
type vpnScene struct {
	t                       *testing.T
	server, client, scanner *lab.Host
	uplink                  *lab.Link // the client's
	scanned                 netip.Addr
	service                 string // udp/1194
	keys, config            string // folders
}

const vpnPatience = 30 * time.Second // on a busy machine

// newVPNScene builds the network. The door is not up yet, nor does anything serve.
func newVPNScene(t *testing.T, service string) *vpnScene {
	if !lab.RealRoot() {
		t.Skip("only the machine's own root may open a TUN device")
	}
	l := lab.NewT(t)
	s := &vpnScene{t: t, service: service, keys: vpnKeys(t), config: t.TempDir(),
		server: l.Host("server"), client: l.Host("client"), scanner: l.Host("scanner")}
	_, s.uplink = l.Connect(s.server, s.client, "192.0.2.0/24")
	onServer, _ := l.Connect(s.server, s.scanner, "198.51.100.0/24")
	s.scanned = onServer.Addr4()
	// A tunnel's own chatter would keep open what is to be seen closing.
	for _, h := range []*lab.Host{s.server, s.client} {
		h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
	}
	// The kernel answers so many probes a second with ICMP and no more: which
	// ports get an answer would be chance.
	s.server.Sysctl("net.ipv4.icmp_ratemask", "0")
	return s
}

func (s *vpnScene) protocol() string { return s.service[:3] }

// sshThrough starts an SSH server, and returns what runs a line there, over SSH through the
// tunnel.
func (s *vpnScene) sshThrough() func(line string) *lab.Cmd {
	s.t.Helper()
	folder := s.t.TempDir()
	sshd, err := openssh.Start(s.t.Context(), s.server, 22, folder)
	if err != nil {
		s.t.Fatal(err)
	}
	config := filepath.Join(folder, "ssh_config")
	if err := os.WriteFile(config, []byte("Host server\n"+sshd.Client(netip.MustParseAddr("10.8.0.1"))), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return func(line string) *lab.Cmd {
		return s.client.Command(within(s.t, soon), "ssh", "-F", config, "server", line)
	}
}

// policyFor writes a policy with a door to a service, which leaves the tunnel alone, and
// returns its file.
func (s *vpnScene) policyFor(service string) string {
	s.t.Helper()
	file := filepath.Join(s.config, "policy.yaml")
	text := strings.Replace(doorAt, "PORT", service, 1) + "allow: [{interface: tun0}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// up puts up examples/vpn.yaml, with words exchanged.
func (s *vpnScene) up(exchange ...string) {
	s.t.Helper()
	text, err := os.ReadFile("../../examples/vpn.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	policy := string(text)
	for i := 0; i < len(exchange); i += 2 {
		if !strings.Contains(policy, exchange[i]) {
			s.t.Fatalf("the example has no %q", exchange[i])
		}
		policy = strings.ReplaceAll(policy, exchange[i], exchange[i+1])
	}
	file := filepath.Join(s.config, "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.postern(s.server, "up", "-f", file)
	s.postern(s.client, "add", "vpn", "--address", s.uplink.Peer.Addr4().String(), "--port", s.service,
		"--knock", "38113,5942:udp,21677")
}

// postern runs the program on a host and returns what it prints.
func (s *vpnScene) postern(h *lab.Host, args ...string) []byte {
	s.t.Helper()
	cmd := h.Command(s.t.Context(), "postern", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.config,
		"STATE_DIRECTORY=" + filepath.Join(s.config, "state-"+h.Name), "RUNTIME_DIRECTORY=" + filepath.Join(s.config, "run-"+h.Name)}
	var talk strings.Builder
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("postern %s: %v\n%s%s", strings.Join(args, " "), err, out, &talk)
	}
	return out
}

// granted reports whether the kernel holds a grant.
func (s *vpnScene) granted() bool {
	s.t.Helper()
	var status state
	if err := json.Unmarshal(s.postern(s.server, "status", "--json", "-f", filepath.Join(s.config, "policy.yaml")), &status); err != nil {
		s.t.Fatal(err)
	}
	if !status.Loaded || status.Altered {
		s.t.Fatalf("status: %+v", status)
	}
	return len(status.Grants) > 0
}

// A vpnProcess is a program that runs meanwhile: OpenVPN at one end of the tunnel.
type vpnProcess struct {
	t    *testing.T
	cmd  *lab.Cmd
	kill context.CancelFunc

	mu   sync.Mutex
	said strings.Builder
	more chan struct{} // closed when it says more
}

// serve starts the server, and waits until it serves.
func (s *vpnScene) serve(options ...string) *vpnProcess {
	s.t.Helper()
	protocol := "udp4"
	if s.protocol() == "tcp" {
		protocol = "tcp4-server"
	}
	p := s.openvpn(s.server, "server", append([]string{"--proto", protocol, "--port", "1194",
		"--topology", "subnet", "--server", "10.8.0.0", "255.255.255.0", "--dh", "none"}, options...))
	p.await(vpnUp)
	return p
}

// join starts a client.
func (s *vpnScene) join(options ...string) *vpnProcess {
	s.t.Helper()
	protocol := "udp4"
	if s.protocol() == "tcp" {
		protocol = "tcp4-client"
	}
	return s.openvpn(s.client, "client", append([]string{"--client", "--nobind", "--proto", protocol,
		"--remote", s.uplink.Peer.Addr4().String(), "1194", "--remote-cert-tls", "server"}, options...))
}

// vpnUp is what OpenVPN says when the tunnel is there.
const vpnUp = "Initialization Sequence Completed"

// openvpn starts OpenVPN as what it is certified to be.
func (s *vpnScene) openvpn(h *lab.Host, role string, options []string) *vpnProcess {
	s.t.Helper()
	return s.start(h, "openvpn", append([]string{"--dev", "tun", "--ca", "ca.crt",
		"--cert", role + ".crt", "--key", role + ".key"}, options...)...)
}

// start starts a program that runs until it is ended.
func (s *vpnScene) start(h *lab.Host, name string, args ...string) *vpnProcess {
	s.t.Helper()
	ctx, kill := context.WithCancel(s.t.Context())
	p := &vpnProcess{t: s.t, kill: kill, more: make(chan struct{})}
	p.cmd = h.Command(ctx, name, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.keys, p, p
	if err := p.cmd.Start(); err != nil {
		s.t.Fatalf("%v (scripts/install-test-tools installs it)", err)
	}
	s.t.Cleanup(func() {
		p.end()
		if s.t.Failed() {
			s.t.Logf("%s of the %s said:\n%s", name, h.Name, &p.said)
		}
	})
	return p
}

// Write takes down what OpenVPN says.
func (p *vpnProcess) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Write(b)
	close(p.more)
	p.more = make(chan struct{})
	return len(b), nil
}

// times tells how often it has said so, and returns a channel that is closed when it
// says more.
func (p *vpnProcess) times(words string) (int, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.said.String(), words), p.more
}

// await waits until it says so.
func (p *vpnProcess) await(words string) {
	p.t.Helper()
	if !p.says(words, vpnPatience) {
		p.t.Fatalf("%s does not say %q", p.cmd.Path, words)
	}
}

// says waits that long at most until it says so, and reports whether it does.
func (p *vpnProcess) says(words string, within time.Duration) bool {
	deadline := time.After(within)
	for {
		n, more := p.times(words)
		if n > 0 {
			return true
		}
		select {
		case <-more:
		case <-deadline:
			return false
		}
	}
}

// end kills it, without a word to the other end.
func (p *vpnProcess) end() {
	p.kill()
	p.cmd.Wait()
}

// asks tells the packets that ask for the VPN, and are not an answer.
func (s *vpnScene) asks(p *packet.Packet) bool {
	if s.protocol() == "tcp" {
		return p.TCP != nil && p.TCP.DstPort == 1194 && p.TCP.Flags == packet.SYN
	}
	return p.UDP != nil && p.UDP.DstPort == 1194
}

// staysOut starts what sends packets to the service, none of which may come to it.
func (s *vpnScene) staysOut(start func() *vpnProcess) {
	s.t.Helper()
	protocol := packet.ProtocolUDP
	if s.protocol() == "tcp" {
		protocol = packet.ProtocolTCP
	}
	admitted, err := s.server.Admitted(protocol, s.asks)
	if err != nil {
		s.t.Fatal(err)
	}
	defer admitted.Close()
	sent, err := s.uplink.Capture(s.asks)
	if err != nil {
		s.t.Fatal(err)
	}
	defer sent.Close()
	defer start().end()
	ctx, cancel := context.WithTimeout(s.t.Context(), vpnPatience)
	defer cancel()
	for range 2 { // the first, and what follows when there is no answer
		if _, err := sent.Next(ctx); err != nil {
			s.t.Fatalf("nothing is sent: %v", err)
		}
	}
	// The kernel judges a packet long before the next one is sent.
	in, err := admitted.Drain()
	if err != nil {
		s.t.Fatal(err)
	}
	if len(in) > 0 {
		s.t.Fatalf("%d packets came in without a knock", len(in))
	}
}

// forget sets how long connection tracking remembers a flow of UDP in which nothing
// is said. (The rules must be up.)
func (s *vpnScene) forget(after time.Duration) {
	s.t.Helper()
	for _, name := range []string{"nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"} {
		s.server.Sysctl("net.netfilter."+name, strconv.Itoa(int(after.Seconds())))
	}
}

// forgetAdmitted has the rules forget which flows they have admitted. They know them
// again for 70 s, which is too long to wait for.
func (s *vpnScene) forgetAdmitted() {
	s.t.Helper()
	out, err := s.server.Command(s.t.Context(), "nft", "flush", "set", "inet", "postern", "packets4").CombinedOutput()
	if err != nil {
		s.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// forgotten waits until connection tracking has forgotten the tunnel.
func (s *vpnScene) forgotten() {
	s.t.Helper()
	for deadline := time.Now().Add(vpnPatience); s.known() > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("connection tracking does not forget the tunnel")
		}
	}
}

// known counts the VPN's flows that connection tracking knows.
func (s *vpnScene) known() int {
	s.t.Helper()
	known := 0
	err := s.server.Do(func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		for _, f := range flows {
			if f.Forward.DstPort == 1194 || f.Reverse.DstPort == 1194 {
				known++
			}
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return known
}
