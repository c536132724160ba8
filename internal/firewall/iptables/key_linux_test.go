package iptables

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// TestNamesTellNoKnock tries all ports against the names of lists, as anyone could who
// reads them: of unsealed names all knocks are found, of those in the kernel none. The
// key lasts as long as the rules do.
func TestNamesTellNoKnock(t *testing.T) {
	t.Parallel()
	const policy = labtest.Closed + "doors:\n  ssh: {service: tcp/22, knock: {sequence: [47011, 5120, 31877]}}\n"
	m := labtest.Compile(t, Backend{}, policy)
	var bare []string
	for _, g := range Compile(m).shared(IPv4, nil) {
		bare = append(bare, names(g.text())...)
	}
	if got, want := knocksOf(bare), []int{47011, 5120, 31877}; !slices.Equal(got, want) {
		t.Fatalf("the attack finds %v by the names %v, and not %v", got, bare, want)
	}
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		h := lab.NewT(t).Host("host")
		loaded := func() []string {
			t.Helper()
			labtest.Apply(t, h, b, m)
			text, err := h.Command(t.Context(), program(b.Variant, IPv4, "save")).Output()
			if err != nil {
				t.Fatal(err)
			}
			return names(string(text))
		}
		before := loaded()
		if len(before) < 4 {
			t.Fatalf("not all lists: %v", before)
		}
		if got := knocksOf(before); len(got) > 0 {
			t.Errorf("the names %v tell the knocks %v", before, got)
		}
		if again := loaded(); !slices.Equal(before, again) {
			t.Errorf("loaded again, the lists have other names: %v, then %v", before, again)
		}
		if err := h.Do(b.Remove); err != nil {
			t.Fatal(err)
		}
		if anew := loaded(); slices.ContainsFunc(anew, func(name string) bool {
			return strings.Count(name, "-") > 1 && slices.Contains(before, name)
		}) {
			t.Errorf("after they were gone, the lists have the same names: %v", anew)
		}
	})
}

// knocksOf returns the knocks of a door that names of lists tell: the ids in them are
// hashes, as package automaton makes them.
func knocksOf(names []string) []int {
	ids := map[string]bool{}
	for _, name := range names {
		ids[name[max(0, len(name)-8):]] = true
	}
	tells := func(text string) bool {
		sum := sha256.Sum256([]byte(text))
		return ids[fmt.Sprintf("%08x", binary.BigEndian.Uint32(sum[:])&automaton.Largest)]
	}
	var found []int
	for path := ""; ; {
		next := 0
		for port := 1; port < 1<<16 && next == 0; port++ {
			longer := fmt.Sprintf("%s tcp/%d", path, port)
			grant := fmt.Sprintf("grant of tcp/22 by [%s] for 10s admitting one forfeit false from [] source {32 128}", longer[1:])
			if tells("state"+longer+" within 3s ignoring true") || tells(grant) {
				next, path = port, longer
			}
		}
		if next == 0 {
			return found
		}
		found = append(found, next)
	}
}
