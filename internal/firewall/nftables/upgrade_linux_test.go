package nftables

import (
	"strings"
	"testing"

	"postern/internal/lab"
)

// TestOtherStates: progress in states that an early version named with the highest bit
// is forgotten, as that bit means something else now. Other progress stays.
func TestOtherStates(t *testing.T) {
	for _, test := range []struct {
		state string
		stays bool
	}{{"1:2", true}, {"8001:2", false}} {
		h := lab.NewT(t).Host("host")
		apply := func(policy string) {
			t.Helper()
			if err := h.Do(func() error { return Backend{}.Apply(machine(t, policy)) }); err != nil {
				t.Fatal(err)
			}
		}
		nft := func(args ...string) string {
			t.Helper()
			out, err := h.Command(t.Context(), "nft", args...).CombinedOutput()
			if err != nil {
				t.Fatalf("nft %q: %v\n%s", args, err, out)
			}
			return string(out)
		}
		apply("howto")
		nft("add element inet postern at4 { 192.0.2.7 timeout 1m : " + test.state + " }")
		nft("add element inet postern step { " + test.state + " . tcp . 99 : 8001:1 }")
		apply("everything")
		if got := strings.Contains(nft("list", "map", "inet", Table, "at4"), "192.0.2.7"); got != test.stays {
			t.Errorf("progress in state %s stays: %t", test.state, got)
		}
	}
}
