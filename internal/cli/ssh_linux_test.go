package cli

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/cli/ui"
	"postern/internal/lab"
	"postern/internal/lab/openssh"
)

// atHome is a command of the client's whose ssh takes the client's folder for its user's
// home. It goes by the list of users for that, and by no variable.
func (h *hideout) atHome(t *testing.T, words ...string) *lab.Cmd {
	t.Helper()
	users := h.path("passwd")
	if err := os.WriteFile(users, fmt.Appendf(nil, "root:x:0:0::%s:/bin/sh\n", h.home), 0o644); err != nil {
		t.Fatal(err)
	}
	// The list is this command's alone, as its mounts are.
	script := []string{"sh", "-c", `mount --bind "$0" /etc/passwd && exec "$@"`, users}
	cmd := h.command(t, append(script, words...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return cmd
}

// runAtHome runs a command that must do well, and returns what it prints and says.
func (h *hideout) runAtHome(t *testing.T, words ...string) outcome {
	t.Helper()
	got := h.finish(t, h.atHome(t, words...))
	if got.status != 0 {
		t.Fatalf("%q: exit status %d\n%s%s", words, got.status, got.out, got.talk)
	}
	return got
}

// newLogin has sshd behind a door, and a client whose ssh is set up for its key, and knows
// the server's by the server's address. The ways there are ours to make.
func newLogin(t *testing.T) *hideout {
	t.Helper()
	h, atInner := newInner(t)
	known := ""
	for name, at := range map[string]*lab.Link{"home": h.at, "inner": atInner} {
		if err := os.Mkdir(h.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := openssh.Start(t.Context(), at.Host, 22, h.path(name)); err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(h.path(name + "/host.pub"))
		if err != nil {
			t.Fatal(err)
		}
		known += at.Addr4().String() + " " + string(public)
	}
	h.write(t, "known_hosts", known)
	if err := os.Mkdir(h.path(".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write(t, ".ssh/config", fmt.Sprintf(`Host inner
	HostName %s
	IdentityFile %s
Host *
	IdentityFile %s
	IdentitiesOnly yes
	UserKnownHostsFile %s
	GlobalKnownHostsFile none
	StrictHostKeyChecking yes
	BatchMode yes
	LogLevel ERROR
`, atInner.Addr4(), h.path("inner/user"), h.path("home/user"), h.path("known_hosts")))
	h.run(t, "postern", "add", "home", "--address", h.at.Addr4().String(), "--knock", "1234,2345,3456", "--user", "root")
	h.run(t, "postern", "add", "wrong", "--address", h.at.Addr4().String(), "--knock", "1234,2345", "--timeout", "700ms")
	return h
}

// TestSSHVerb logs in by "postern ssh", and by ssh alone once it has been told of the
// host.
func TestSSHVerb(t *testing.T) {
	t.Parallel()
	h := newLogin(t)

	t.Run("a command", func(t *testing.T) {
		cmd := h.atHome(t, "postern", "ssh", "home", "cat; echo talk >&2; exit 7")
		cmd.Stdin = strings.NewReader("in\n")
		expect(t, h.finish(t, cmd), outcome{"in\n", "talk\n", 7})
		// What stands behind the command's first word is the command's.
		got := h.runAtHome(t, "postern", "ssh", "-T", "home", "--", "echo", "-l", "nobody", "--json", "-J")
		if got.out != "-l nobody --json -J\n" || got.talk != "" {
			t.Errorf("%+v", got)
		}
	})

	// Nothing of ours is left between ssh and the server.
	t.Run("alone", func(t *testing.T) {
		cmd := h.atHome(t, "postern", "ssh", "home", "echo ready; cat")
		in, _ := startReady(t, cmd)
		proc := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid))
		if program, err := os.Readlink(filepath.Join(proc, "exe")); err != nil || filepath.Base(program) != "ssh" {
			t.Errorf("the process is %q (%v)", program, err)
		}
		children, err := os.ReadFile(filepath.Join(proc, "task", strconv.Itoa(cmd.Process.Pid), "children"))
		if err != nil || len(children) > 0 {
			t.Errorf("its children are %q (%v)", children, err)
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})

	// Programs that run ssh put its options before the host, and ask it what it can do.
	t.Run("git", func(t *testing.T) {
		h.run(t, "git", "init", "-q", "--bare", "project")
		got := h.runAtHome(t, "env", "GIT_SSH_COMMAND=postern ssh", "git", "ls-remote", "-q", "ssh://root@home:22"+h.path("project"))
		if got.out != "" || got.talk != "" {
			t.Errorf("%+v", got)
		}
	})

	t.Run("wrong knocks", func(t *testing.T) {
		got := h.finish(t, h.atHome(t, "postern", "ssh", "-l", "root", "wrong", "true"))
		if got.status != 255 || !strings.Contains(got.talk, "postern: error: tcp/22 of 192.0.2.2 did not open after ") || !strings.Contains(got.talk, ": no answer\n") {
			t.Errorf("%+v", got)
		}
	})

	t.Run("by its name", func(t *testing.T) {
		if got := h.finish(t, h.atHome(t, "ssh", "home", "true")); got.status != 255 {
			t.Fatalf("ssh knows the way by itself: %+v", got)
		}
		h.runAtHome(t, "postern", "ssh-config", "--install", "home")
		cmd := h.atHome(t, "ssh", "home", "cat; exit 3")
		cmd.Stdin = strings.NewReader("in\n")
		expect(t, h.finish(t, cmd), outcome{"in\n", "", 3})
		h.write(t, "here", "a file\n")
		h.runAtHome(t, "scp", "-q", "here", "home:"+h.path("there"))
		h.same(t, "there", []byte("a file\n"))
		if got := h.runAtHome(t, "ssh", "-J", "home", "inner", "set $SSH_CONNECTION; echo $1 $3"); got.out != "198.51.100.1 198.51.100.2\n" {
			t.Errorf("by way of it: %+v", got)
		}
	})
}

// TestSSHConfig has the real ssh read what was installed, as its user's own
// configuration.
func TestSSHConfig(t *testing.T) {
	t.Parallel()
	h := newHideout(t, hiddenSSH)
	h.run(t, "postern", "add", "home", "--address", "home.example", "--port", "2222", "--knock", "1,2,3", "--user", "ann")
	h.run(t, "postern", "add", "work", "--address", "192.0.2.9", "--knock", "1,2,3")
	asks := func(name string) map[string]string {
		got := map[string]string{}
		for line := range strings.Lines(h.runAtHome(t, "ssh", "-G", name).out) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			got[key] = value
		}
		return got
	}
	compare := func(name string, want map[string]string) {
		t.Helper()
		got := asks(name)
		for key, want := range want {
			if got[key] != want {
				t.Errorf("ssh's %s of %s is %q, want %q", key, name, got[key], want)
			}
		}
	}
	atHome := map[string]string{
		"hostname": "home.example", "port": "2222", "user": "ann",
		"proxycommand": "postern connect home --brief --fdpass", "proxyusefdpass": "yes",
	}
	got := h.runAtHome(t, "postern", "ssh-config", "home", "--install")
	said := fmt.Sprintf("postern: wrote %q, and included it in %q\npostern: hint: now \"ssh home\" knocks\n", h.path(".ssh/postern.conf"), h.path(".ssh/config"))
	if got.out != "" || got.talk != said {
		t.Errorf("%+v", got)
	}
	compare("home", atHome)
	got = h.runAtHome(t, "postern", "ssh-config", "home", "--install")
	if got.talk != "postern: ssh knows home already; nothing has changed\n" {
		t.Errorf("%+v", got)
	}

	// The user's own settings hold where ours say nothing, and for other hosts; those
	// that follow the included file are for all.
	config := "Port 7\nHost home other\n\tUser bob\n\tProxyJump other\n\tCompression yes\n"
	h.write(t, ".ssh/config", config)
	got = h.runAtHome(t, "postern", "ssh-config", "home", "--install")
	if !strings.Contains(got.talk, "there is another block for home in line 3 of") {
		t.Errorf("%+v", got)
	}
	h.runAtHome(t, "postern", "ssh-config", "work", "--install")
	if text, err := os.ReadFile(h.path(".ssh/config")); err != nil || string(text) != "Include postern.conf\n"+config {
		t.Errorf("the configuration is now %q (%v)", text, err)
	}
	compare("home", atHome)
	compare("home.example", map[string]string{"hostname": "home.example", "port": "2222", "proxycommand": atHome["proxycommand"], "proxyjump": ""})
	compare("home", map[string]string{"compression": "yes", "proxyjump": ""})
	compare("work", map[string]string{"hostname": "192.0.2.9", "port": "22", "user": "root"})
	compare("192.0.2.9", map[string]string{"hostname": "192.0.2.9", "port": "22", "proxycommand": "postern connect work --brief --fdpass"})
	compare("other", map[string]string{"port": "7", "user": "bob", "proxyjump": "other"})

	// A host that has changed, and one that is gone.
	h.run(t, "postern", "add", "home", "--address", "new.example", "--knock", "1,2", "--force")
	h.write(t, "config/postern/hosts.yaml", "version: 1\nhosts:\n  home: {address: new.example, knock: [1, 2]}\n")
	got = h.runAtHome(t, "postern", "ssh-config", "home", "--install", "--json")
	for _, want := range []string{`"changed": true`, `"host": "home"`, `has a block for work, which is not in the hosts file`} {
		if !strings.Contains(got.out, want) || got.talk != "" {
			t.Errorf("%s is missing: %+v", want, got)
		}
	}
	compare("home", map[string]string{"hostname": "new.example", "port": "22", "user": "bob"})
	compare("work", map[string]string{"hostname": "192.0.2.9"})

	// What is no file is not waited for.
	file := h.path(".ssh/postern.conf")
	if err := errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	got = h.finish(t, h.atHome(t, "postern", "ssh-config", "home", "--install"))
	said = fmt.Sprintf("postern: error: cannot change ssh's configuration in %q: %q is not a regular file\npostern: hint: move it away, and try again\n", h.path(".ssh"), file)
	if got.status != ui.CodeFailed || got.talk != said {
		t.Errorf("%+v", got)
	}
}

// TestFdpass takes a connection as ssh does, and it is one as ssh would have made.
func TestFdpass(t *testing.T) {
	t.Parallel()
	h := newHideout(t, hiddenSSH)
	h.listen(t, 22, func(c *net.TCPConn) { fmt.Fprint(c, "hello\n") })
	h.run(t, "postern", "add", "home", "--address", h.at.Addr4().String(), "--knock", "1234,2345,3456")
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	cmd := h.command(t, "postern", "connect", "home", "--fdpass")
	cmd.Stdin, cmd.Stdout = theirs, theirs
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	data, rights := make([]byte, 10), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := unix.Recvmsg(pair[0], data, rights, unix.MSG_DONTWAIT)
	if err != nil || n != 1 {
		t.Fatalf("%d bytes came (%v), and ssh reads one", n, err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%v, %v", messages, err)
	}
	got, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	conn := os.NewFile(uintptr(got[0]), "connection")
	defer conn.Close()
	if flags, err := unix.FcntlInt(uintptr(got[0]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("its flags are %#x (%v)", flags, err)
	}
	for option, want := range map[int]int{unix.TCP_KEEPIDLE: 7200, unix.TCP_KEEPINTVL: 75, unix.TCP_KEEPCNT: 9, unix.TCP_NODELAY: 0} {
		if got, err := unix.GetsockoptInt(got[0], unix.IPPROTO_TCP, option); err != nil || got != want {
			t.Errorf("TCP option %d is %d (%v), want %d", option, got, err, want)
		}
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("the service says %q (%v)", line, err)
	}
}
