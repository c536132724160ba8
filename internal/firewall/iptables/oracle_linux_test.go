package iptables

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/automaton"
	"postern/internal/firewall/conformance"
	"postern/internal/lab"
	"postern/internal/policy"
)

// TestGuestListing: the real iptables-save lists the rules that Compile returned,
// rule for rule, for random policies.
func TestGuestListing(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	drawn, err := conformance.Machines(seed, 20)
	if err != nil {
		t.Fatal(err)
	}
	var machines []*automaton.Machine
	for _, file := range policies {
		machines = append(machines, machine(t, file))
	}
	for _, d := range drawn {
		p := d.Policy
		for i := range p.Doors { // for which iptables has whole seconds, and which it cannot cut
			door := &p.Doors[i]
			door.OpenFor = (door.OpenFor + time.Second - 1).Truncate(time.Second)
			door.Knock.StepTimeout = (door.Knock.StepTimeout + time.Second - 1).Truncate(time.Second)
			door.OnClose = policy.OnCloseKeep
		}
		m, err := Machine(p)
		if err != nil {
			t.Fatal(err)
		}
		machines = append(machines, m)
	}
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		h := lab.NewT(t).Host("host")
		for i, m := range machines {
			if err := h.Do(func() error { return b.Apply(m) }); err != nil {
				t.Fatalf("policy %d: %v", i, err)
			}
			r := Compile(m)
			var want, got map[string][]string
			if err := h.Do(func() error {
				loaded, err := b.read()
				all := loaded.contents()
				want, got = byChain(r.contents(all.key()), r.Digest(), all.key()), byChain(all, "", nil)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("policy %d is listed otherwise (-text +listed):\n%s", i, d)
			}
		}
	})
}

// byChain returns the rules of each chain, with numbers for protocols, and under the table's name what leads to
// them. With a digest it adds the labels.
func byChain(c contents, digest string, key *listKey) map[string][]string {
	shape := c.shape()
	all := map[string][]string{}
	for at, here := range c {
		if digest != "" {
			here = here.with(label{digest: digest, shape: shape, key: key})
		}
		table := fmt.Sprint(int(at.family), " ", at.table)
		for _, e := range here.entries {
			all[table] = append(all[table], e.rule)
		}
		for _, one := range here.chains {
			for _, rule := range append([]string{""}, one.rules...) {
				name := table + " " + one.name
				all[name] = append(all[name], labelledCreated.ReplaceAllString(numbered(rule), ""))
			}
		}
	}
	return all
}
