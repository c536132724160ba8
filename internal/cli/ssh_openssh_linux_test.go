package cli

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/openssh"
)

const hiddenSSH = `
version: 1
posture: closed
log: {target: none}
doors:
  ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456]}}
`

// newInner has another host behind the server, for an sshd on each, and returns its link.
func newInner(t *testing.T) (*hideout, *lab.Link) {
	t.Helper()
	if !lab.RealRoot() {
		t.Skip("sshd cannot become another user in a user namespace: run this as root")
	}
	h := newHideout(t, hiddenSSH)
	_, atInner := h.lab.Connect(h.server, h.lab.Host("inner"), "198.51.100.0/24")
	return h, atInner
}

// newSSH has sshd behind the door, and ssh go through it to the host "home": or to "handed", which
// is the same, and has postern hand the connection over. Behind the server is another
// host with an sshd, "inner".
func newSSH(t *testing.T) *hideout {
	t.Helper()
	h, atInner := newInner(t)
	config := "Host home\n\tProxyCommand postern connect -q home\n" +
		"Host handed\n\tProxyCommand postern connect -q --fdpass home\n\tProxyUseFdpass yes\n"
	for _, s := range []struct {
		names string
		at    *lab.Link
	}{{"home handed", h.at}, {"inner", atInner}} {
		keys := h.path(s.at.Host.Name + "-keys")
		if err := os.Mkdir(keys, 0o700); err != nil {
			t.Fatal(err)
		}
		server, err := openssh.Start(t.Context(), s.at.Host, 22, keys)
		if err != nil {
			t.Fatal(err)
		}
		config += "Host " + s.names + "\n" + server.Client(s.at.Addr4())
	}
	if err := os.WriteFile(h.path("ssh_config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run(t, "postern", "add", "home", "--address", h.at.Addr4().String(), "--knock", "1234,2345,3456")
	return h
}

// ssh returns the words of a command of OpenSSH's.
func (h *hideout) ssh(program string, args ...string) []string {
	return append([]string{program, "-F", h.path("ssh_config")}, args...)
}

// TestOpenSSH connects with the real ssh and its kin, knocking each time: what they
// do on the way to an open server they do on the way to a hidden one.
func TestOpenSSH(t *testing.T) {
	t.Parallel()
	h := newSSH(t)
	if conn, err := h.client.Dial(within(t, 300*time.Millisecond), "tcp", netip.AddrPortFrom(h.at.Addr4(), 22)); err == nil {
		conn.Close()
		t.Fatal("sshd is not hidden")
	}
	large, small := pattern(64<<20), pattern(4<<20)
	for name, b := range map[string][]byte{"large": large, "small": small} {
		if err := os.WriteFile(h.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a command", func(t *testing.T) {
		t.Parallel()
		cmd := h.command(t, h.ssh("ssh", "home", "cat; echo talk >&2; exit 7")...)
		cmd.Stdin = strings.NewReader("in\n")
		expect(t, h.finish(t, cmd), outcome{"in\n", "talk\n", 7})
	})
	t.Run("wrong knocks", func(t *testing.T) {
		// Not beside the others: openings at one address take turns, and half a second
		// may pass before its own.
		h.run(t, "postern", "add", "wrong", "--address", h.at.Addr4().String(), "--knock", "1234,2345")
		cmd := h.command(t, h.ssh("ssh", "-o", "ProxyCommand=postern connect wrong --timeout 500ms", "home", "true")...)
		expect(t, h.finish(t, cmd), outcome{"", "postern: error: tcp/22 of 192.0.2.2 did not open after ", 255})
	})
	for _, host := range []string{"home", "handed"} {
		t.Run("scp to "+host, func(t *testing.T) {
			t.Parallel()
			there, here := host+"-scp-there", host+"-scp-here"
			h.run(t, h.ssh("scp", "-q", h.path("large"), host+":"+h.path(there))...)
			h.same(t, there, large)
			h.run(t, h.ssh("scp", "-q", host+":"+h.path("large"), h.path(here))...)
			h.same(t, here, large)
		})
		t.Run("sftp to "+host, func(t *testing.T) {
			t.Parallel()
			batch, folder, here := host+"-batch", host+"-sftp-there", host+"-sftp-here"
			commands := fmt.Sprintf("mkdir %[1]s\nput %[2]s %[1]s/a\nrename %[1]s/a %[1]s/b\nget %[1]s/b %[3]s\nls -1 %[1]s\n",
				h.path(folder), h.path("small"), h.path(here))
			if err := os.WriteFile(h.path(batch), []byte(commands), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := h.run(t, h.ssh("sftp", "-q", "-b", h.path(batch), host)...); !strings.HasSuffix(out, h.path(folder+"/b")+"\n") {
				t.Errorf("the listing is %q", out)
			}
			h.same(t, here, small)
		})
	}
	t.Run("pipes", func(t *testing.T) {
		t.Parallel()
		h.run(t, "sh", "-c", `ssh -F ssh_config home "cat >'$PWD/pipe-there'" <small && ssh -F ssh_config home "cat '$PWD/small'" >pipe-here`)
		h.same(t, "pipe-there", small)
		h.same(t, "pipe-here", small)
		// Many small files, there and back.
		h.run(t, "bash", "-o", "pipefail", "-c", `
			mkdir tree there here && (cd tree && for i in $(seq 200); do head -c $((i * 37)) ../small >$i; done) &&
			tar c tree | ssh -F ssh_config home "tar x -C '$PWD/there'" && diff -r tree there/tree &&
			ssh -F ssh_config home "tar c -C '$PWD/there' tree" | tar x -C here && diff -r tree here/tree`)
	})
	t.Run("ssh -L", func(t *testing.T) {
		t.Parallel()
		h.forwards(t)
	})
	t.Run("ssh -J", func(t *testing.T) {
		t.Parallel()
		cmd := h.command(t, h.ssh("ssh", "-J", "home", "inner", "set $SSH_CONNECTION; echo $1 $3; cat; exit 3")...)
		cmd.Stdin = bytes.NewReader(small)
		expect(t, h.finish(t, cmd), outcome{"198.51.100.1 198.51.100.2\n" + string(small), "", 3})
	})
	t.Run("twenty at once", func(t *testing.T) {
		t.Parallel()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				word, host := fmt.Sprintf("session %d\n", i), "home"
				if i%4 == 0 {
					host = "handed"
				}
				cmd := h.commandContext(within(t, soon), h.ssh("ssh", host, "cat")...)
				cmd.Stdin = strings.NewReader(word)
				expect(t, h.finish(t, cmd), outcome{word, "", 0})
			})
		}
		all.Wait()
	})
}

// same compares a file in the client's home with what it should hold.
func (h *hideout) same(t *testing.T, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(h.path(name))
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(want) {
		t.Errorf("%s has another SHA-256: it has %d bytes of %d", name, len(got), len(want))
	}
}

// forwards sends a megabyte to a service of the server's loopback and back again, through
// ssh -L.
func (h *hideout) forwards(t *testing.T) {
	t.Helper()
	h.listenAt(t, "127.0.0.1:7", func(c *net.TCPConn) { io.Copy(c, c) })
	session := h.command(t, h.ssh("ssh", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:8007:127.0.0.1:7", "home", "echo ready; cat")...)
	stdin, _ := startReady(t, session)
	conn, err := h.client.Dial(within(t, soon), "tcp", netip.MustParseAddrPort("127.0.0.1:8007"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	sent := pattern(1 << 20)
	go func() {
		conn.Write(sent)
		conn.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, of %d (%v)", len(got), len(sent), err)
	}
	stdin.Close()
	if err := session.Wait(); err != nil {
		t.Errorf("the session ends with %v", err)
	}
}
