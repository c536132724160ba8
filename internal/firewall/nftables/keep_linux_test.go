package nftables

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/firewall"
	"postern/internal/lab"
)

// asIfPersists has tables made to persist, whichever nft this machine has.
func asIfPersists(t *testing.T) {
	if !kernelPersists() {
		t.Skip("this kernel has no tables that persist (it takes Linux 6.9)")
	}
	before := newTableFlags
	newTableFlags = func() uint32 { return tablePersist }
	t.Cleanup(func() { newTableFlags = before })
}

// keeper returns a Keeper on a host, which is closed at the end.
func keeper(t *testing.T, h *lab.Host) (k firewall.Keeper) {
	t.Helper()
	if err := h.Do(func() (err error) { k, err = Backend{}.Keep(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// hold holds the table, or reports that it cannot be.
func hold(t *testing.T, h *lab.Host, k firewall.Keeper) (held bool) {
	t.Helper()
	if err := h.Do(func() (err error) { held, err = k.Hold(); return err }); err != nil {
		t.Fatal(err)
	}
	return held
}

// TestHold: what is held outlives flushes and the process that holds it; others are
// refused, and the Keeper itself can replace rules.
func TestHold(t *testing.T) {
	asIfPersists(t)
	h := lab.NewT(t).Host("host")
	k := keeper(t, h)
	if hold(t, h, k) {
		t.Error("holds what is not loaded")
	}
	apply := func(by firewall.Backend, name string) error {
		return h.Do(func() error { return by.Apply(machine(t, name)) })
	}
	nft := func(command ...string) error { return h.Command(t.Context(), "nft", command...).Run() }
	sound := func(name string) {
		t.Helper()
		var s *firewall.Status
		if err := h.Do(func() (err error) { s, err = k.Inspect(); return err }); err != nil {
			t.Fatal(err)
		}
		if want := Compile(machine(t, name)).Digest(); !s.Loaded || s.Altered || s.Digest != want {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if err := apply(Backend{}, "howto"); err != nil {
		t.Fatal(err)
	}
	sound("howto")
	before := list(t, h)
	for _, again := range []string{"", " again"} {
		if !hold(t, h, k) {
			t.Fatal("does not hold it" + again)
		}
	}
	if err := nft("flush", "ruleset"); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"delete", "table", "inet", Table},
		{"flush", "table", "inet", Table},
		{"insert", "rule", "inet", Table, "input", "accept"},
		{"add", "table", "inet", Table, "{", "flags", "dormant", ";", "}"},
	} {
		if nft(command...) == nil {
			t.Errorf("nft %s is not refused", strings.Join(command, " "))
		}
	}
	// Who holds it is in the listing.
	unheld := regexp.MustCompile(`(?m) # progname.*$|owner,?`).ReplaceAllString(list(t, h), "")
	if d := cmp.Diff(before, unheld); d != "" {
		t.Errorf("flushed (-before +after):\n%s", d)
	}
	var held *firewall.HeldError
	if err := apply(Backend{}, "everything"); !errors.As(err, &held) {
		t.Errorf("applied by another: %v", err)
	}
	if err := h.Do(Backend{}.Remove); !errors.As(err, &held) {
		t.Errorf("removed by another: %v", err)
	}
	sound("howto")
	if err := apply(k, "everything"); err != nil {
		t.Error(err)
	}
	sound("everything")
	if hold(t, h, keeper(t, h)) {
		t.Error("two hold it")
	}

	if err := h.Do(k.LetGo); err != nil {
		t.Fatal(err)
	}
	sound("everything")
	if err := apply(Backend{}, "howto"); err != nil {
		t.Error(err)
	}
	if !hold(t, h, k) {
		t.Error("does not hold again")
	}
	k.Close() // as when the process dies
	sound("howto")
	if err := h.Do(Backend{}.Remove); err != nil {
		t.Error(err)
	}
}

// TestHoldsOnlyWhatPersists: a table that would die with its owner is not held.
func TestHoldsOnlyWhatPersists(t *testing.T) {
	before := newTableFlags
	newTableFlags = func() uint32 { return 0 }
	defer func() { newTableFlags = before }()
	h := lab.NewT(t).Host("host")
	if err := h.Do(func() error { return Backend{}.Apply(machine(t, "howto")) }); err != nil {
		t.Fatal(err)
	}
	if hold(t, h, keeper(t, h)) {
		t.Error("holds it")
	}
}

// TestOldNFT: a table persists where nft can write that, or is absent. The nft of
// this machine lists and reads back what is loaded, whichever it is.
func TestOldNFT(t *testing.T) {
	h := lab.NewT(t).Host("host")
	if err := h.Do(func() error { return Backend{}.Apply(machine(t, "howto")) }); err != nil {
		t.Fatal(err)
	}
	text, err := h.Command(t.Context(), "nft", "list", "ruleset").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, append([]byte("flush ruleset\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := h.Command(t.Context(), "nft", "-f", file).CombinedOutput(); err != nil {
		t.Errorf("what nft lists it does not read: %v\n%s", err, out)
	}
	for script, want := range map[string]bool{"exit 1": false, "grep -q 'flags persist'": true} {
		bin := t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "nft"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin+":/usr/bin:/bin")
		if nftPersists() != want {
			t.Errorf("nft that does %q: %v", script, !want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if !nftPersists() {
		t.Error("an nft that is not there cannot stumble")
	}
}

// TestProbeLeavesNothing: the kernel is asked about a table without one being made.
func TestProbeLeavesNothing(t *testing.T) {
	h := lab.NewT(t).Host("host")
	if err := h.Do(func() error { kernelPersists(); return nil }); err != nil {
		t.Fatal(err)
	}
	if out, err := h.Command(t.Context(), "nft", "list", "ruleset").Output(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestConcerns: notices of our table count, but not those of sets that packets
// change, and no others'. Every set that packets change is known by its name.
func TestConcerns(t *testing.T) {
	for _, s := range Compile(machine(t, "everything")).sets {
		if isLive(s.name) != s.earned() {
			t.Errorf("set %s: live %v", s.name, isLive(s.name))
		}
	}
	k := keeper(t, lab.NewT(t).Host("host"))
	own := k.(*Keeper).via.PID()
	for _, test := range []struct {
		firewall.Notice
		want bool
	}{
		{firewall.Notice{Sender: own + 1, Table: "inet " + Table}, true},
		{firewall.Notice{Sender: own + 1, Table: "inet " + Table, Chain: "input"}, true},
		{firewall.Notice{Sender: own + 1, Table: "inet " + Table, Set: "service"}, true},
		{firewall.Notice{Sender: own + 1, Table: "inet " + Table, Set: "once4"}, false},
		{firewall.Notice{Sender: own, Table: "inet " + Table}, false},
		{firewall.Notice{Sender: own + 1, Table: "ip " + Table}, false},
		{firewall.Notice{Sender: own + 1, Table: "ip filter", Chain: "INPUT"}, false},
	} {
		if k.Concerns(test.Notice) != test.want {
			t.Errorf("%+v concerns us: %v", test.Notice, !test.want)
		}
	}
}
