package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"postern/internal/document/documenttest"
)

// TestGood parses valid policies. Each golden has the policy and, in "parsed",
// everything that it means, with defaults filled in.
func TestGood(t *testing.T) {
	documenttest.Golden(t, "good", "policy.yaml", "parsed", func(t *testing.T, data []byte) string {
		p, err := Parse("policy.yaml", data)
		if err != nil {
			t.Fatalf("this policy is right, and was refused:\n%v", err)
		}
		sound(t, p)
		return dump(p)
	})
}

// TestBad parses invalid policies. Each golden has the policy and, in
// "diagnostics", everything that is printed.
func TestBad(t *testing.T) {
	const least = 60 // goldens: an empty folder would prove nothing
	n := documenttest.Golden(t, "bad", "policy.yaml", "diagnostics", func(t *testing.T, data []byte) string {
		p, err := Parse("policy.yaml", data)
		if err == nil {
			t.Fatalf("this policy is wrong, and was taken as\n%s", dump(p))
		}
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Fatalf("error is a %T, not an *InvalidError: %v", err, err)
		}
		documenttest.Pointed(t, data, invalid)
		return err.Error() + "\n"
	})
	if n < least {
		t.Errorf("%d bad policies, want at least %d", n, least)
	}
}

// dump returns all fields of a policy, one a line.
func dump(p *Policy) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("posture %s, cover %s", p.Posture, p.Cover)
	if !p.EarlyDrop {
		line("no early drop")
	}
	line("interfaces %q", p.Interfaces)
	if p.Admitted != (Admitted{}) {
		line("admitted mark %s", p.Admitted.Mark)
	}
	line("source ipv4 /%d ipv6 /%d", p.Source.IPv4, p.Source.IPv6)
	line("log %s group %d", p.Log.Target, p.Log.Group)
	if p.Log.Progress {
		line("log progress (%d:%d)", p.Log.ProgressPos.Line, p.Log.ProgressPos.Column)
	}
	if p.Backend != "" {
		line("backend %s", p.Backend)
	}
	for _, a := range p.Allow {
		line("allow %v from %v on %q (%d:%d)", a.Service, a.From, a.Interface, a.Pos.Line, a.Pos.Column)
	}
	if p.HasKeys() {
		line("keys at %v (%d:%d), address %s", p.Keys.Port, p.Keys.Pos.Line, p.Keys.Pos.Column, p.Keys.Bound)
	}
	for _, u := range p.Users {
		line("user %s (%d:%d) with %q", u.Name, u.Pos.Line, u.Pos.Column, u.Devices)
		line("  networks %v, until %v (%d:%d)", u.Networks, u.Until, u.UntilPos.Line, u.UntilPos.Column)
	}
	for _, d := range p.Doors {
		line("door %s (%d:%d)", d.Name, d.Pos.Line, d.Pos.Column)
		line("  services %v at %v", d.Services, d.Address)
		line("  knocks %v at %v", d.Knock.Sequence, d.Knock.SequencePos)
		if len(d.Knock.Users) > 0 {
			line("  keys of %q (%d:%d)", d.Knock.Users, d.Knock.UsersPos.Line, d.Knock.UsersPos.Column)
		}
		if len(d.Knock.Close) > 0 || d.OnClose != DefaultOnClose {
			line("  closed by %v at %v, and then %s (%d:%d)", d.Knock.Close, d.Knock.ClosePos, d.OnClose, d.OnClosePos.Line, d.OnClosePos.Column)
		}
		line("  step_timeout %v, retransmits %s", d.Knock.StepTimeout, d.Knock.Retransmits)
		line("  open_for %v, admit %s, forfeit %v", d.OpenFor, d.Admit, d.Forfeit)
		line("  forward %v, masquerade %v", d.Forward, d.Masquerade)
		line("  from %v", d.From)
	}
	return b.String()
}
