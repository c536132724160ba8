package cli

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/lab"
	"postern/internal/lab/openssh"
)

// A wayInTest is a policy, and a log-in that it blocks.
type wayInTest struct {
	name, backend, policy string
	port                  uint16 // of sshd
	ssh                   string // more of ssh's command line
	inside                string // what the session runs postern with
	setup                 string // on the server, beforehand
	blocked               string // what up says is blocked; "" for nothing
	judge                 uint16 // the port that is shut then
	knock                 string // what opens it; "" for nothing
	opens                 uint16 // if not the port that is shut
}

const doorAt = "version: 1\nposture: closed\nlog: {target: none}\n" +
	"doors:\n  ssh: {service: PORT, knock: {sequence: [1234, 2345, 3456]}}\n"

// TestWayInIsShut: the way in that up refuses to block is the one that it blocks, and
// the door that it names opens it. The kernel is the judge.
func TestWayInIsShut(t *testing.T) {
	t.Parallel()
	if !lab.RealRoot() {
		t.Skip("sshd cannot become another user in a user namespace: run this as root")
	}
	redirect := `nft 'table inet nat { chain in { type nat hook prerouting priority dstnat; tcp dport 2022 redirect to :22; }; }'`
	closed22, guard22 := strings.Replace(doorAt, "PORT", "tcp/22", 1), strings.NewReplacer("PORT", "tcp/22", "closed", "guard").Replace(doorAt)
	const from, sentOn = "you are logged in over SSH from 192.0.2.1", " at tcp/2022, which a NAT rule sends on to port 22; "
	const allow22, allow2022 = "allow: [{service: tcp/22}]\n", "allow: [{service: tcp/2022}]\n"
	for _, test := range []wayInTest{
		{name: "at another port", backend: "nftables", policy: strings.Replace(doorAt, "PORT", "tcp/2222", 1), port: 2222,
			blocked: from + "; ", judge: 2222, knock: "1234 2345 3456"},
		{name: "by ssh localhost", backend: "nftables", policy: closed22, port: 22, inside: "ssh -F $CONFIG self ",
			blocked: from + "; ", judge: 22, knock: "1234 2345 3456"},
		{name: "redirected, and no door is for that port", backend: "nftables", policy: closed22, port: 22, ssh: "-p 2022", setup: redirect,
			blocked: from + sentOn, judge: 2022},
		{name: "redirected", backend: "nftables", policy: strings.Replace(doorAt, "PORT", "tcp/2022", 1), port: 22, ssh: "-p 2022", setup: redirect,
			blocked: from + sentOn, judge: 2022, knock: "1234 2345 3456"},
		{name: "redirected to a hidden port", backend: "nftables", policy: guard22, port: 22, ssh: "-p 2022", setup: redirect,
			blocked: from + sentOn, judge: 2022, knock: "1234 2345 3456", opens: 22},
		{name: "redirected from an allowed port to a hidden one", backend: "nftables", policy: guard22 + allow2022, port: 22,
			ssh: "-p 2022", setup: redirect, judge: 2022},
		{name: "redirected from an allowed port", backend: "nftables", policy: closed22 + allow2022, port: 22, ssh: "-p 2022", setup: redirect, judge: 2022},
		{name: "redirected to an allowed port", backend: "nftables", policy: closed22 + allow22, port: 22, ssh: "-p 2022", setup: redirect,
			blocked: from + sentOn, judge: 2022},
		{name: "redirected, before iptables", backend: "iptables", policy: closed22, port: 22, ssh: "-p 2022", setup: redirect,
			blocked: from + sentOn, judge: 2022, knock: "1234 2345 3456"},
		{name: "redirected to a hidden port, before iptables", backend: "iptables", policy: guard22, port: 22, ssh: "-p 2022", setup: redirect,
			blocked: from + sentOn, judge: 2022, knock: "1234 2345 3456"},
		{name: "redirected from an allowed port, before iptables", backend: "iptables", policy: closed22 + allow2022, port: 22, ssh: "-p 2022", setup: redirect,
			blocked: from + sentOn, judge: 2022, knock: "1234 2345 3456"},
		{name: "redirected to an allowed port, before iptables", backend: "iptables", policy: closed22 + allow22, port: 22, ssh: "-p 2022", setup: redirect, judge: 2022},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

func (test *wayInTest) run(t *testing.T) {
	l := lab.NewT(t)
	h := &hideout{lab: l, client: l.Host("client"), server: l.Host("server"), home: t.TempDir()}
	_, h.at = l.Connect(h.client, h.server, "192.0.2.0/24")
	h.install(t)
	sshd, err := openssh.Start(t.Context(), h.server, test.port, h.path("keys"))
	if err != nil {
		t.Fatal(err)
	}
	config := "Host server\n" + sshd.Client(h.at.Addr4()) + "Host self\n" + sshd.Client(netip.MustParseAddr("127.0.0.1"))
	h.write(t, "ssh_config", config)
	h.write(t, "policy.yaml", test.policy)
	if test.setup != "" {
		if out, err := h.server.Command(within(t, soon), "sh", "-c", test.setup).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	inside := strings.ReplaceAll(test.inside, "$CONFIG", h.path("ssh_config"))
	line := "ssh -F " + h.path("ssh_config") + " " + test.ssh + " -p PORT server " +
		inside + h.path("bin/postern") + " check --json -f " + h.path("policy.yaml") + " --backend " + test.backend + "; true" // an error is found, as it should be
	if test.ssh != "" {
		line = strings.Replace(line, " -p PORT", "", 1)
	}
	line = strings.Replace(line, "PORT", netip.AddrPortFrom(h.at.Addr4(), test.port).String()[len("192.0.2.2:"):], 1)
	var checked checked
	if out := h.run(t, "sh", "-c", line); json.Unmarshal([]byte(out), &checked) != nil {
		t.Fatalf("check says %s", out)
	}
	said := ""
	for _, w := range checked.Warnings {
		if w.Kind == "caller-blocked" {
			said += w.Severity + ": " + w.Message + "\n"
			if opens := strings.Contains(w.Hints[0], "postern share ssh"); opens != (test.knock != "") {
				t.Errorf("the way back: %q", w.Hints[0])
			}
		}
	}
	want := ""
	if test.blocked != "" {
		want = "error: " + test.blocked + "this policy would block new logins from there\n"
	}
	if said != want {
		t.Errorf("it says %q, want %q", said, want)
	}
	h.onServer(t, "up", "-f", h.path("policy.yaml"), "--backend", test.backend)
	open := func(port uint16) bool {
		patience := 500 * time.Millisecond
		conn, err := h.client.Dial(within(t, patience), "tcp", netip.AddrPortFrom(h.at.Addr4(), port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	if blocked := !open(test.judge); blocked != (test.blocked != "") {
		t.Errorf("port %d is shut: %v", test.judge, blocked)
	}
	if test.knock == "" {
		return
	}
	h.run(t, append([]string{"postern", "knock", h.at.Addr4().String()}, strings.Fields(test.knock)...)...)
	at := test.judge
	if test.opens != 0 {
		at = test.opens
	}
	if !open(at) {
		t.Errorf("port %d is shut after the knocks", at)
	}
}

// TestWayInThroughVPN: the port of the VPN that a log-in comes through is part of its
// way in, and so is what up says that it blocks.
func TestWayInThroughVPN(t *testing.T) {
	t.Parallel()
	s := newVPNScene(t, "udp/1194")
	s.serve()
	client := s.join()
	client.await(vpnUp)
	ssh := s.sshThrough()
	policy := s.policyFor("tcp/22")
	postern, err := exec.LookPath("postern")
	if err != nil {
		t.Fatal(err)
	}
	out, err := ssh(postern + " check --json -f " + policy + "; true").Output()
	var checked checked
	if err != nil || json.Unmarshal(out, &checked) != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var said []string
	for _, w := range checked.Warnings {
		if w.Kind == "caller-blocked" {
			said = append(said, w.Message)
		}
	}
	want := []string{"your log-in comes through a tunnel of this host; this policy would block new packets of openvpn to udp/1194"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	client.end()
	s.postern(s.server, "up", "-f", policy)
	s.staysOut(s.unknocked)
}

// install puts this binary in the folder of programs, and makes one for keys.
func (h *hideout) install(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin", "keys"} {
		if err := os.Mkdir(h.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(h.path("bin"), "postern")); err != nil {
		t.Fatal(err)
	}
}
