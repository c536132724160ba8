package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// TestCutKeepsCaller: --cut ends what an address has open, and not the connection of the
// administrator who says it, from wherever in their log-in they do.
func TestCutKeepsCaller(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			testCutKeepsCaller(t, backend)
		})
	}
}

func testCutKeepsCaller(t *testing.T, backend string) {
	h := newKeyed(t)
	// The administrator was there before the rules, and has no key.
	h.onServer(t, "down")
	in, out := startReady(t, h.atHome(t, "ssh", "root@192.0.2.2", "echo ready; exec sh"))
	says := func(line string) string {
		t.Helper()
		fmt.Fprintf(in, "%s\necho exit $?\n", line)
		said := ""
		for {
			next, err := out.ReadString('\n')
			switch {
			case err != nil:
				t.Fatalf("the connection has ended after %s\n%s", line, said)
			case next == "exit 0\n":
				return said
			case strings.HasPrefix(next, "exit "):
				t.Fatalf("%s\n%s%s", line, said, next)
			}
			said += next
		}
	}
	h.write(t, "postern", fmt.Sprintf("#!/bin/sh\nSTATE_DIRECTORY=%s RUNTIME_DIRECTORY=%s exec %s \"$@\" 2>&1\n",
		h.path("state"), h.path("run"), h.path("bin/postern")))
	says("chmod 700 " + h.path("postern"))
	h.onServer(t, "up", "-f", h.path("policy.yaml"), "--backend", backend)

	alice := func() io.Reader {
		t.Helper()
		_, out := startReady(t, h.atHome(t, "postern", "ssh", "four", "echo ready; exec sleep 1000"))
		return out
	}
	for _, test := range []struct{ from, around string }{
		{"the session", "%s"},
		{"one without its environment", "env -i %s"},
		{"a session of its own", "setsid --wait %s"},
		{"ssh to itself", "ssh -n -F none -i user -o UserKnownHostsFile=known_hosts -o BatchMode=yes root@127.0.0.1 %s"},
		{"ssh to itself by its address", "ssh -n -F none -i user -o UserKnownHostsFile=known_hosts -o BatchMode=yes root@192.0.2.2 %s"},
	} {
		for _, verb := range []string{"revoke --all --cut", "revoke ssh 192.0.2.1 --cut", "revoke --user alice --cut"} {
			hers := alice()
			said := says(fmt.Sprintf(test.around, h.path("postern")+" "+verb+" --json -f "+h.path("policy.yaml")))
			var answer revoked
			if err := json.Unmarshal([]byte(said), &answer); err != nil || answer.Cut == nil || answer.Cut.Connections != 1 || answer.Cut.Own != 1 {
				t.Errorf("%s from %s: %v\n%s", verb, test.from, err, said)
			}
			io.ReadAll(hers) // until it ends
		}
	}
	hers := alice()
	said := says(h.path("postern") + " user revoke alice --cut -f " + h.path("policy.yaml"))
	if !strings.Contains(said, "postern: kept the connection you are logged in by\n") {
		t.Error(said)
	}
	io.ReadAll(hers)
	says("true")
}

// TestCutKeepsTunnel: who is logged in through a VPN of this host, of which nobody knows
// which of its packets are theirs, keeps it when all connections end.
func TestCutKeepsTunnel(t *testing.T) {
	t.Parallel()
	s := newVPNScene(t, "udp/1194")
	s.serve()
	client := s.join()
	client.await(vpnUp)
	ssh := s.sshThrough()
	file := s.policyFor("udp/1194")
	s.postern(s.server, "up", "-f", file)
	s.postern(s.server, "grant", "ssh", s.uplink.Addr4().String(), "-f", file)
	self, err := exec.LookPath("postern")
	if err != nil {
		t.Fatal(err)
	}
	run := fmt.Sprintf("STATE_DIRECTORY=%[1]s/state-server RUNTIME_DIRECTORY=%[1]s/run-server %[2]s revoke --all --cut --json -f %[3]s; echo still here",
		s.config, self, file)
	out, err := ssh(run).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"own": 1`) || !strings.HasSuffix(string(out), "still here\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := ssh("echo in").CombinedOutput(); err != nil || string(out) != "in\n" {
		t.Errorf("the tunnel is shut: %v\n%s", err, out)
	}
}
