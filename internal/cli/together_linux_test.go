package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/cli/ui"
)

var (
	rounds   = flag.Int("rounds", 8, "how often TestUpTogether has several \"up\" run at once")
	together = flag.Int("together", 4, "how many run at once")
)

// TestUpTogether runs several "up" at once, of both backends and with two policies.
// At the end there is one rule set, of one backend; and never was there none: a client
// asks for the hidden port all the time. Without the lock, two of 60 rounds left
// nothing loaded.
func TestUpTogether(t *testing.T) {
	t.Parallel()
	h := newHideout(t, hiddenSSH)
	h.listen(t, 22, func(*net.TCPConn) {})
	h.write(t, "other.yaml", strings.Replace(hiddenSSH, "1234", "4321", 1))
	p := h.probe(t, 22)
	for round := range *rounds {
		var up sync.WaitGroup
		for i := range *together {
			up.Go(func() {
				args := []string{"up", "-f", h.path([]string{"policy.yaml", "other.yaml"}[i%2]), "--backend", []string{"nftables", "iptables"}[i/2%2]}
				var talk bytes.Buffer
				cmd := h.serverCommand(within(t, 20*time.Minute), args...)
				cmd.Stderr = &talk
				if err := cmd.Run(); err != nil {
					t.Errorf("round %d: %q: %v\n%s", round, args, err, &talk)
				}
			})
		}
		up.Wait()
		h.oneRuleSet(t, fmt.Sprintf("round %d", round))
	}
	p.shut(t)
}

// oneRuleSet fails the test unless the server runs the rules of exactly one backend,
// which are those that are saved.
func (h *hideout) oneRuleSet(t *testing.T, when string) {
	t.Helper()
	var out, talk bytes.Buffer
	cmd := h.serverCommand(within(t, soon), "status", "-f", h.path("nosuch.yaml"), "--json")
	cmd.Stdout, cmd.Stderr = &out, &talk
	// That the file is not there is all that may be wrong.
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != ui.CodeOtherPolicy {
		t.Errorf("%s: status: %v\n%s%s", when, err, &out, &talk)
		return
	}
	var got state
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Loaded || got.Altered || len(got.Warnings) > 0 || len(got.Problems) != 1 {
		t.Errorf("%s: loaded: %v, altered: %v, %v, %v", when, got.Loaded, got.Altered, got.Warnings, got.Problems)
	}
}
