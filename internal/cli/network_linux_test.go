package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/lab"
)

// A hideout is a client, and a server behind rules that the real main has loaded. The
// client has a folder for its home, with the hosts file and a program "postern", which
// is this binary.
type hideout struct {
	lab            *lab.Lab
	client, server *lab.Host
	from, at       *lab.Link // the cable between them: the client's end, the server's
	home           string
}

// soon is within what anything here takes to end, on a machine that is busy with
// other things as well. What takes longer hangs.
const soon = 60 * time.Second

// newHideout has the server run a policy.
func newHideout(t *testing.T, policy string) *hideout {
	t.Helper()
	l := lab.NewT(t)
	h := &hideout{lab: l, client: l.Host("client"), server: l.Host("server"), home: t.TempDir()}
	h.from, h.at = l.Connect(h.client, h.server, "192.0.2.0/24")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.path("bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, h.path("bin/postern")); err != nil {
		t.Fatal(err)
	}
	h.up(t, policy)
	return h
}

func (h *hideout) path(name string) string { return filepath.Join(h.home, name) }

// write makes a file.
func (h *hideout) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// up has the server run another policy.
func (h *hideout) up(t *testing.T, policy string) {
	t.Helper()
	h.write(t, "policy.yaml", policy)
	h.onServer(t, "up", "-f", h.path("policy.yaml"))
}

// onServer does a verb on the server.
func (h *hideout) onServer(t *testing.T, args ...string) {
	t.Helper()
	if out, err := h.serverCommand(within(t, soon), args...).CombinedOutput(); err != nil {
		t.Fatalf("postern %q on the server: %v\n%s", args, err, out)
	}
}

// serverCommand is a verb on the server.
func (h *hideout) serverCommand(ctx context.Context, args ...string) *lab.Cmd {
	cmd := h.server.Command(ctx, h.path("bin/postern"), args...)
	cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+h.path("state"), "RUNTIME_DIRECTORY="+h.path("run"))
	return cmd
}

// command is a command of the client's, which is killed if it does not end soon.
func (h *hideout) command(t *testing.T, words ...string) *lab.Cmd {
	t.Helper()
	return h.commandContext(within(t, soon), words...)
}

func (h *hideout) commandContext(ctx context.Context, words ...string) *lab.Cmd {
	if words[0] == "postern" {
		words[0] = h.path("bin/postern")
	}
	cmd := h.client.Command(ctx, words[0], words[1:]...)
	cmd.Dir = h.home
	cmd.Env = []string{
		"PATH=" + h.path("bin") + ":" + os.Getenv("PATH"), "SHELL=/bin/sh", "NO_COLOR=1",
		"HOME=" + h.home, "XDG_CONFIG_HOME=" + h.path("config"), "XDG_CACHE_HOME=" + h.path("cache"),
	}
	return cmd
}

// run runs a command that must do well, and returns what it prints.
func (h *hideout) run(t *testing.T, words ...string) string {
	t.Helper()
	got := h.finish(t, h.command(t, words...))
	if got.status != 0 {
		t.Fatalf("%q: exit status %d\n%s%s", words, got.status, got.out, got.talk)
	}
	return got.out
}

// outcome is what comes of a command.
type outcome struct {
	out, talk string
	status    int // -1 if it was killed
}

func (h *hideout) finish(t *testing.T, cmd *lab.Cmd) outcome {
	t.Helper()
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &talk, time.Second
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{out.String(), talk.String(), cmd.ProcessState.ExitCode()}
}

// startReady starts a session that says "ready" first, and gives both ends of what is said
// after it.
func startReady(t *testing.T, session *lab.Cmd) (in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	in, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	out = bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the session says %q (%v)", line, err)
	}
	return in, out
}

// listen has the server do something with each connection to a port, which it closes
// then.
func (h *hideout) listen(t *testing.T, port int, serve func(*net.TCPConn)) {
	t.Helper()
	h.listenAt(t, fmt.Sprintf(":%d", port), serve)
}

func (h *hideout) listenAt(t *testing.T, address string, serve func(*net.TCPConn)) {
	t.Helper()
	ln, err := h.server.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(soon))
				serve(conn.(*net.TCPConn))
			}()
		}
	}()
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
