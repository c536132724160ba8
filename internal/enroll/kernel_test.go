package enroll

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/key"
	"postern/internal/policy"
)

// A recorder is a backend that loads nothing, and notes what it is told.
type recorder struct {
	calls  []string
	status *firewall.Status
}

func (r *recorder) Name() string                                         { return "recorder" }
func (r *recorder) Machine(p *policy.Policy) (*automaton.Machine, error) { return automaton.Compile(p) }
func (r *recorder) Digest(m *automaton.Machine) string                   { return policy.Format(m.Policy) }
func (r *recorder) Remove() error                                        { return nil }
func (r *recorder) Inspect() (*firewall.Status, error)                   { return r.status, nil }
func (r *recorder) VerifyEverywhere(*automaton.Machine) error            { return nil }
func (r *recorder) Verifying() (bool, error)                             { return false, nil }
func (r *recorder) StopVerifying() (bool, error)                         { return false, nil }
func (r *recorder) Grant(*automaton.Machine, *automaton.Door, netip.Addr, time.Duration) error {
	return nil
}

func (r *recorder) Open(*automaton.Machine, *automaton.Door) ([]netip.AddrPort, error) {
	return nil, nil
}

func (r *recorder) Forget(d key.Device) error {
	r.calls = append(r.calls, fmt.Sprintf("forget %d", d))
	return nil
}

func (r *recorder) Revoke(_ *automaton.Machine, of firewall.Revocation) (firewall.Revoked, error) {
	call := fmt.Sprintf("revoke %s from %s, cut %v", of.Door.Name, of.From, of.Cut)
	if of.Keep {
		call += ", keep"
	}
	r.calls = append(r.calls, call)
	return firewall.Revoked{Grants: 1, Connections: 2}, nil
}

func (r *recorder) Apply(m *automaton.Machine) error {
	ring, err := m.Keyring()
	r.calls = append(r.calls, fmt.Sprintf("apply %d users, %d keys", len(m.Policy.Users), len(ring.Devices)))
	return err
}

// TestTell: keys that are gone are forgotten first, in the kernel before the files, and
// whatever runs. What they opened is taken if it is known whose it is, and the rules are
// loaded if they were the policy's.
func TestTell(t *testing.T) {
	f := in(t, twoDoors)
	must(t)(f.Add(Wish{User: "alice", Device: "laptop", Doors: []string{"ssh", "web"}}))
	must(t)(f.Add(Wish{User: "bob", Device: "laptop", Doors: []string{"ssh"}}))
	p, keys, _ := f.now(t)
	alice, bob := keys.Find("alice/laptop").ID, keys.Find("bob/laptop").ID
	const lost = 77 // a device of hers that the file has lost
	r := must(t)(f.Revoke("alice", ""))
	rotated := must(t)(f.Rotate("bob", ""))

	forget, forgetLost, forgetBob := fmt.Sprintf("forget %d", alice), "forget 77", fmt.Sprintf("forget %d", bob)
	const take, apply = "revoke ssh from 192.0.2.7, cut ", "apply 1 users, 1 keys"
	const cutUsedUp = "revoke ssh from 2001:db8::7, cut true, keep"
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	at := func(address string) firewall.Opening {
		return firewall.Opening{Source: netip.MustParseAddr(address), When: time.Now()}
	}
	hers, his, usedUp := at("192.0.2.7"), at("192.0.2.8"), at("2001:db8::7")
	uses := []firewall.KeyUse{
		{Device: bob, Name: "bob/laptop", Door: key.DoorID("ssh"), Opened: []firewall.Opening{his}},
		{Device: alice, Name: "alice/laptop", Door: key.DoorID("ssh"), Opened: []firewall.Opening{hers, usedUp}},
		{Device: alice, Name: "alice/laptop", Door: key.DoorID("web")},
	}
	ssh := slices.IndexFunc(m.Grants, func(g automaton.Grant) bool { return m.Doors[g.Door].Name == "ssh" })
	grants := []firewall.Grant{
		{Source: hers.Source, ID: m.Grants[ssh].ID, Given: hers.When},
		{Source: his.Source, ID: m.Grants[ssh].ID, Given: his.When},
		{Source: usedUp.Source, ID: m.Grants[ssh].ID, Given: usedUp.When.Add(time.Minute)}, // by hand
	}
	before, now := policy.Format(p), policy.Format(r.Policy)
	damaged := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(damaged, []byte("version: 1\ndevices: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := &Out{User: "alice"}
	for name, test := range map[string]struct {
		status firewall.Status
		kept   change.State
		out    *Out // nil: only Tell
		r      *Result
		calls  []string
		other  bool
		waits  bool
		open   bool // what is open may stay so
	}{
		"nothing runs":   {firewall.Status{}, change.State{}, all, r, nil, false, false, false},
		"the policy":     {firewall.Status{Loaded: true, Digest: before, Keys: uses, Grants: grants}, change.State{}, all, r, []string{forget, take + "false", forget, apply}, false, false, false},
		"and cut":        {firewall.Status{Loaded: true, Digest: before, Keys: uses, Grants: grants}, change.State{}, &Out{User: "alice", Device: "laptop", Cut: true}, r, []string{forget, take + "true", cutUsedUp, forget, apply}, false, false, false},
		"another device": {firewall.Status{Loaded: true, Digest: before, Keys: uses, Grants: grants}, change.State{}, &Out{User: "alice", Device: "phone"}, r, []string{forget, apply}, false, false, false},
		"a key replaced": {firewall.Status{Loaded: true, Digest: now, Keys: uses, Grants: grants}, change.State{}, nil, rotated, []string{forgetBob, apply}, false, false, false},
		"another policy": {firewall.Status{Loaded: true, Digest: "x", Keys: uses, Grants: grants}, change.State{}, all, r, []string{forget, forget}, true, false, true},
		"one that waits": {firewall.Status{Loaded: true, Digest: before, Keys: uses, Grants: grants}, change.State{Pending: &change.Pending{}}, all, r, []string{forget, take + "false", forget}, false, true, false},
		"no files":       {firewall.Status{Loaded: true, Digest: before, Keys: uses, Grants: grants}, change.State{}, all, nil, []string{forget, take + "false"}, false, false, false},
		"keys alone":     {firewall.Status{Loaded: true, Digest: before, Keys: uses, Grants: grants}, change.State{}, all, &Result{Gone: r.Gone, Unlisted: errors.New("no")}, []string{forget, take + "false", forget}, false, false, false},
		"a lost key": {firewall.Status{Loaded: true, Digest: now, Keys: []firewall.KeyUse{{Device: lost, Name: "bob/laptop", Door: key.DoorID("ssh")}}},
			change.State{}, nil, &Result{File: rotated.File, Before: rotated.Before, Policy: rotated.Policy, Text: rotated.Text, Keys: rotated.Keys, New: rotated.New}, []string{forgetLost, apply}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := &recorder{status: &test.status}
			survey := backends.Look([]firewall.Backend{b})
			k := Kernel{Kept: test.kept, Survey: survey, Loaded: survey}
			if test.out != nil {
				m, err := automaton.Compile(p)
				if err != nil {
					t.Fatal(err)
				}
				s := k.ShutOut(test.out, damaged, m)
				if s.Keys != nil || (s.Open != nil) != test.open {
					t.Errorf("shut out: %+v", s)
				}
				if known := test.status.Loaded && test.out.Device != "phone"; known != slices.Equal(s.Devices, []string{"alice/laptop"}) {
					t.Errorf("forgotten: %q", s.Devices)
				}
			}
			var e Effect
			if test.r != nil {
				var err error
				if e, err = k.Tell(test.r); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(b.calls, test.calls) {
				t.Errorf("calls %q, want %q", b.calls, test.calls)
			}
			applied := slices.Contains(test.calls, apply)
			if e.Other != test.other || e.Waits != test.waits || (e.Loaded != nil) != applied {
				t.Errorf("the effect is %+v", e)
			}
			if applied && (e.Loaded.Policy != string(test.r.Text) || e.Loaded.Keys != f.Keys || e.Loaded.File != f.Policy || e.Loaded.RuleSet != policy.Format(test.r.Policy)) {
				t.Errorf("saved is %+v", e.Loaded)
			}
		})
	}
}
