package nftables

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/firewall"
	"postern/internal/lab"
)

// TestAltered: a change that another program makes to our table shows, and the next Apply
// repairs it.
func TestAltered(t *testing.T) {
	m := machine(t, "everything")
	for name, command := range map[string][]string{
		"rules flushed":               {"flush", "table", "inet", Table},
		"a chain flushed":             {"flush", "chain", "inet", Table, "cover"},
		"a rule inserted":             {"insert", "rule", "inet", Table, "input", "accept"},
		"with a set":                  {"insert", "rule", "inet", Table, "input", "tcp", "dport", "{", "9,", "10", "}", "accept"},
		"with a map":                  {"insert", "rule", "inet", Table, "input", "tcp", "dport", "vmap", "{", "9", ":", "accept", "}"},
		"with a chain":                {"insert", "rule", "inet", Table, "input", "jump", "{", "accept", ";", "}"},
		"a service unhidden":          {"delete", "element", "inet", Table, "service", "{", "tcp", ".", "22", "}"},
		"a policy of drop":            {"add", "chain", "inet", Table, "syn", "{", "policy", "drop", ";", "}"},
		"a chain of its own":          {"add", "chain", "inet", Table, "mine"},
		"a counter that no rule uses": {"add", "counter", "inet", Table, "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			l := lab.NewT(t)
			h := l.Host("host")
			inspect := func() (s *firewall.Status) {
				t.Helper()
				if err := h.Do(func() (err error) { s, err = Backend{}.Inspect(); return err }); err != nil {
					t.Fatal(err)
				}
				return s
			}
			apply := func() {
				t.Helper()
				if err := h.Do(func() error { return Backend{}.Apply(m) }); err != nil {
					t.Fatal(err)
				}
			}
			apply()
			// Chains that were made anew come last in the listing.
			lines := func() []string { return slices.Sorted(strings.SplitSeq(list(t, h), "\n")) }
			want := lines()
			if s := inspect(); s.Altered || !s.Loaded || s.Digest != Compile(m).Digest() {
				t.Fatalf("as applied: %+v", s)
			}
			if out, err := h.Command(t.Context(), "nft", command...).CombinedOutput(); err != nil {
				t.Fatalf("nft %v: %v\n%s", command, err, out)
			}
			harmless := name == "a counter that no rule uses"
			if s := inspect(); s.Altered == harmless {
				t.Errorf("altered: %v", s.Altered)
			}
			apply()
			if s := inspect(); s.Altered {
				t.Error("not repaired")
			}
			if d := cmp.Diff(want, lines()); d != "" {
				t.Errorf("what is loaded now differs (-before +after):\n%s", d)
			}
		})
	}
}
