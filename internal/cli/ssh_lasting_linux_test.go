package cli

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestSessionLasts has a session that outlives all that let it in: its grant, the rules,
// and the next rules.
func TestSessionLasts(t *testing.T) {
	t.Parallel()
	h := newSSH(t)
	// A grant that others from there could use, while it lasts.
	h.up(t, strings.Replace(hiddenSSH, "tcp/22,", "tcp/22, admit: any, open_for: 500ms,", 1))
	session := h.command(t, h.ssh("ssh", "home", "echo ready; cat")...)
	in, lines := startReady(t, session)
	alive := func(when string) {
		t.Helper()
		if _, err := fmt.Fprintln(in, when); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != when+"\n" {
			t.Fatalf("%s: the session says %q (%v)", when, got, err)
		}
	}
	alive("with the grant")

	// hidden reports whether a client that has not knocked is blocked.
	// To fail otherwise than by silence is something else.
	hidden := func() bool {
		t.Helper()
		got := h.finish(t, h.command(t, h.ssh("ssh", "-o", "ProxyCommand=none", "-o", "ConnectTimeout=1", "home", "true")...))
		timedOut := strings.Contains(got.talk, "Connection timed out")
		if got.status != 0 && !timedOut {
			t.Fatalf("without a knock ssh ends with %d: %s", got.status, got.talk)
		}
		return timedOut
	}
	for deadline := time.Now().Add(soon); !hidden(); {
		if time.Now().After(deadline) {
			t.Fatal("the grant does not run out")
		}
	}
	alive("without the grant")

	h.up(t, strings.Replace(hiddenSSH, "1234", "4321", 1))
	if !hidden() {
		t.Error("other rules do not hide the server")
	}
	alive("under other rules")

	h.onServer(t, "down")
	if hidden() {
		t.Error("the server is hidden without rules")
	}
	alive("without rules")

	h.up(t, hiddenSSH)
	if !hidden() {
		t.Error("rules that are back do not hide the server")
	}
	alive("with rules again")

	in.Close()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("at its end the session says %q (%v)", rest, err)
	}
	if err := session.Wait(); err != nil {
		t.Errorf("the session ends with %v", err)
	}
}
