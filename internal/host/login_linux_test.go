package host_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/host"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/lab/openssh"
)

// printWayIn writes the ways of its caller, one a line.
func printWayIn() {
	for _, w := range host.WayIn() {
		sentTo := ""
		if w.Original != w.Local {
			sentTo = fmt.Sprintf(" sent to %s", w.Original)
		}
		fmt.Printf("%s %s from %s to %s%s on %s\n", w.By, w.Port(), w.Remote.Addr(), w.Local, sentTo, w.Through)
	}
	fmt.Println("end")
}

// A login is a server with sshd, and a client that may log in.
type login struct {
	t              *testing.T
	client, server *lab.Host
	outside, at    *lab.Link
	folder         string
	sshd           *openssh.Server
}

func newLogin(t *testing.T, port uint16) *login {
	if !lab.RealRoot() {
		t.Skip("sshd cannot become another user in a user namespace: run this as root")
	}
	l := lab.NewT(t)
	s := &login{t: t, client: l.Host("client"), server: l.Host("server"), folder: t.TempDir()}
	s.outside, s.at = l.Connect(s.client, s.server, "192.0.2.0/24", "2001:db8::/64")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, s.path("wayin")); err != nil {
		t.Fatal(err)
	}
	keys := s.path("keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	if s.sshd, err = openssh.Start(t.Context(), s.server, port, keys); err != nil {
		t.Fatal(err)
	}
	config := ""
	for name, address := range map[string]netip.Addr{
		"server": s.at.Addr4(), "server6": s.at.Addr6(), "self": netip.MustParseAddr("127.0.0.1"),
	} {
		config += "Host " + name + "\n" + s.sshd.Client(address)
	}
	s.write("ssh_config", config)
	return s
}

func (s *login) path(name string) string { return filepath.Join(s.folder, name) }

func (s *login) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// ssh is the beginning of ssh's command line, on either host.
func (s *login) ssh() string { return "ssh -F " + s.path("ssh_config") + " " }

// run runs a command line on a host, and returns what it prints.
func (s *login) run(h *lab.Host, line string) string {
	s.t.Helper()
	cmd := s.command(h, line)
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s\n%v", line, err, out, cmd.Stderr)
	}
	return string(out)
}

func (s *login) command(h *lab.Host, line string) *lab.Cmd {
	cmd := h.Command(labtest.Within(s.t, 30*time.Second), "sh", "-c", line)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + s.folder, "TERM=xterm", "LC_ALL=C.UTF-8", "SHELL=/bin/sh",
	}
	cmd.Dir = s.folder
	return cmd
}

// expect compares what printWayIn has printed.
func (s *login) expect(name, got, want string) {
	s.t.Helper()
	if want != "" {
		want += "\n"
	}
	if got = strings.ReplaceAll(got, "\r", ""); got != want+"end\n" {
		s.t.Errorf("%s: got\n%swant\n%s", name, got, want)
	}
}

// await returns what wayin has written to a file.
func (s *login) await(name string) string {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(s.path(name)); err == nil && strings.HasSuffix(string(text), "end\n") {
			return string(text)
		}
	}
	s.t.Fatalf("%s is not written", name)
	return ""
}

// needs skips a test for lack of a program.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("there is no %s", p)
		}
	}
}

const bySSH = "SSH tcp/22 from 192.0.2.1 to 192.0.2.2:22 on client"

// TestWayInBySSH: a log-in is found through whatever is between it and the program.
func TestWayInBySSH(t *testing.T) {
	s := newLogin(t, 22)
	wayin := s.path("wayin")
	// What connection tracking knows only from somewhere.
	s.run(s.server, `nft 'table inet nat {
		chain in { type nat hook prerouting priority dstnat; tcp dport 2022 redirect to :22; }
	}'`)
	for _, test := range []struct{ name, line, want string }{
		{"plain", s.ssh() + "server " + wayin, bySSH},
		{"IPv6", s.ssh() + "server6 " + wayin, "SSH tcp/22 from 2001:db8::1 to [2001:db8::2]:22 on client"},
		{"on a terminal", s.ssh() + "-tt server " + wayin, bySSH},
		{"redirected", s.ssh() + "-p 2022 server " + wayin, "SSH tcp/2022 from 192.0.2.1 to 192.0.2.2:22 sent to 192.0.2.2:2022 on client"},
		{"redirected, IPv6", s.ssh() + "-p 2022 server6 " + wayin,
			"SSH tcp/2022 from 2001:db8::1 to [2001:db8::2]:22 sent to [2001:db8::2]:2022 on client"},
		{"without the environment", s.ssh() + "server env -i " + wayin, bySSH},
		{"with a stale one", s.ssh() + `server "env SSH_CONNECTION='198.51.100.7 9 192.0.2.2 2222' ` + wayin + `"`, bySSH},
		{"ssh localhost", s.ssh() + `server "` + s.ssh() + "self " + wayin + `"`, bySSH},
		{"ssh localhost, twice", s.ssh() + `server "` + s.ssh() + `self '` + s.ssh() + "self " + wayin + `'"`, bySSH},
		{"ssh to its own address", s.ssh() + `server "` + s.ssh() + "server " + wayin + `"`, bySSH},
		{"by way of a forwarded port", s.ssh() + `-o ProxyCommand="` + s.ssh() + `-W 127.0.0.1:22 server" self ` + wayin, bySSH},
		{"script", s.ssh() + `server "script -qc ` + wayin + ` /dev/null"`, bySSH},
		{"a daemon's", s.ssh() + `server "setsid sh -c '(sleep 0.2; ` + wayin + " >" + s.path("daemon") + ") </dev/null >/dev/null 2>&1 &'\"; sleep 1; cat daemon", bySSH},
	} {
		s.expect(test.name, s.run(s.client, test.line), test.want)
	}
	s.expect("on the console", s.run(s.server, wayin), "")
	s.expect("on the console, on a terminal", s.run(s.server, "script -qc "+wayin+" /dev/null"), "")
	if _, err := exec.LookPath("su"); err == nil {
		s.expect("su", s.run(s.client, s.ssh()+`server "su -s /bin/sh - root -c `+wayin+`"`), bySSH)
	}
	if _, err := exec.LookPath("sudo"); err == nil {
		s.expect("sudo", s.run(s.client, s.ssh()+"-tt server sudo "+wayin), bySSH)
	}
}

// TestWayInAtAnotherPort: sshd need not be at 22.
func TestWayInAtAnotherPort(t *testing.T) {
	s := newLogin(t, 2222)
	s.expect("at 2222", s.run(s.client, s.ssh()+"-p 2222 server "+s.path("wayin")), "SSH tcp/2222 from 192.0.2.1 to 192.0.2.2:2222 on client")
}

// TestWayInBeforeTracking: where connection tracking begins in the middle of a
// session, it may see an answer first.
func TestWayInBeforeTracking(t *testing.T) {
	s := newLogin(t, 22)
	s.write("track", "nft 'table inet t { chain c { type filter hook output priority 0; ct state new counter; }; }'\n"+
		"echo tracked\nsleep 1\n"+s.path("wayin")+"\n")
	got := s.run(s.client, s.ssh()+"server sh "+s.path("track"))
	s.expect("tracked since", strings.TrimPrefix(got, "tracked\n"), bySSH)
}

// TestWayInMultiplexed: who is attached to a terminal came in by their own log-in,
// and not by that of who started its server, which the environment still has.
func TestWayInMultiplexed(t *testing.T) {
	// What sends the line is a client, too: wayin starts when that has ended.
	const line = "until [ -e %[3]s.go ]; do sleep 0.05; done; %[2]s >%[3]s"
	for _, m := range []struct{ program, start, attach, attached, run, detach string }{
		{"tmux", "tmux -L %[1]s -f /dev/null new-session -d -s main", "tmux -L %[1]s attach -t main",
			"tmux -L %[1]s list-clients -t main | grep -q .", "tmux -L %[1]s send-keys -t main '" + line + "' Enter",
			"tmux -L %[1]s detach-client -s main"},
		{"screen", "screen -c /dev/null -dmS %[1]s sh", "screen -x %[1]s",
			"pgrep -fx 'screen -x %[1]s'", "screen -S %[1]s -p 0 -X stuff '" + line + "\\n'", ""},
	} {
		t.Run(m.program, func(t *testing.T) {
			needs(t, m.program, "script")
			s := newLogin(t, 22)
			s.run(s.server, "mkdir -m 700 sockets")
			name := filepath.Base(s.folder) + fmt.Sprint(os.Getpid())
			const session = "TMUX_TMPDIR=$PWD SCREENDIR=$PWD/sockets TERM=xterm "
			in := func(format, file string) string {
				return "cd " + s.folder + "; export " + session + "; " + fmt.Sprintf(format+"%.0[1]s%.0[2]s%.0[3]s", name, s.path("wayin"), file)
			}
			// It outlives the session that it was started in.
			s.write("start", in(m.start, ""))
			s.run(s.client, s.ssh()+"server sh "+s.path("start"))
			ways := func(file string) string {
				s.run(s.server, in(m.run, file))
				s.write(file+".go", "")
				return s.await(file)
			}
			s.expect("nobody is attached", ways("detached"), bySSH)

			attach := func(h *lab.Host, line, file string) string {
				cmd := s.command(h, "script -qfc '"+line+"' /dev/null")
				if _, err := cmd.StdinPipe(); err != nil { // kept open
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				s.run(s.server, in("until "+m.attached+"; do sleep 0.05; done", ""))
				got := ways(file)
				// The client would be found later. If its input ended, so would the shell's.
				if m.detach != "" {
					s.run(s.server, in(m.detach, ""))
				} else { // screen cannot, from outside sshd's PID namespace
					cmd.Process.Kill()
				}
				cmd.Wait()
				return got
			}
			s.write("attach", in(m.attach, ""))
			s.expect("from the console", attach(s.server, "sh "+s.path("attach"), "console"), "")
			s.expect("over IPv6", attach(s.client, s.ssh()+"-tt server6 sh "+s.path("attach"), "remote"),
				"SSH tcp/22 from 2001:db8::1 to [2001:db8::2]:22 on client")
		})
	}
}

// TestWayInByMosh: the session is UDP; it began, and would begin again, by SSH.
func TestWayInByMosh(t *testing.T) {
	needs(t, "mosh-server", "mosh-client", "script")
	s := newLogin(t, 22)
	out := s.run(s.client, s.ssh()+"server 'LC_ALL=C.UTF-8 mosh-server new -s -p 60123 -- sh -c \""+s.path("wayin")+" >"+s.path("mosh")+"; sleep 9\"'")
	_, rest, _ := strings.Cut(out, "MOSH CONNECT 60123 ")
	key, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	if key == "" {
		t.Fatalf("mosh-server says %q", out)
	}
	cmd := s.command(s.client, "MOSH_KEY='"+strings.TrimSpace(key)+"' script -qfc 'stty rows 24 columns 80; mosh-client 192.0.2.2 60123' /dev/null")
	if _, err := cmd.StdinPipe(); err != nil { // kept open
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.expect("mosh", s.await("mosh"), "mosh udp/60123 from 192.0.2.1 to 192.0.2.2:60123 on client\n"+bySSH)
}

// TestWayInThroughTunnel: what a tunnel of this very host is made of is part of the way.
func TestWayInThroughTunnel(t *testing.T) {
	s := newLogin(t, 22)
	for i, h := range []*lab.Host{s.client, s.server} {
		device := []string{"server", "client"}[i]
		s.run(h, fmt.Sprintf("ip link add tunnel type vxlan id 5 dstport 4789 dev %s remote 192.0.2.%d && ip address add 198.51.100.%d/24 dev tunnel && ip link set tunnel up",
			device, 2-i, 1+i))
	}
	s.write("ssh_config", "Host server\n"+s.sshd.Client(netip.MustParseAddr("198.51.100.2")))
	s.expect("vxlan", s.run(s.client, s.ssh()+"server "+s.path("wayin")),
		"SSH tcp/22 from 198.51.100.1 to 198.51.100.2:22 on tunnel\ntunnel udp/4789 from 192.0.2.1 to 0.0.0.0:4789 on client")
}
