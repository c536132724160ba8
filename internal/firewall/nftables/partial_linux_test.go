package nftables

import (
	"fmt"
	"strings"
	"testing"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// TestPartial: of more sources than ReadSources reads it returns a part, and says so.
func TestPartial(t *testing.T) {
	m := machine(t, "everything")
	for _, test := range []struct {
		name, set, of string // one set of each kind, and what an element says of its source
		sources       int
		strangers     int // whose last packet was no knock
		partial       bool
	}{
		{"few knocks in progress", "at4", " timeout 1h : 1:2", maxDump / 2, 0, false},
		{"few in a scan from many addresses", "at4", " timeout 1h : 1:2", 50, 5 * maxDump, false},
		{"many knocks in progress", "at4", " timeout 1h : 1:2", 2 * maxDump, 0, true},
		{"many grants", "many4", " . 1:2 timeout 1h", 2 * maxDump, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := lab.NewT(t)
			h := l.Host("host")
			var elements []string
			for i := range test.sources + test.strangers {
				of := test.of
				if i < test.strangers {
					of = " timeout 1h : " + idText(nobody)
				}
				elements = append(elements, fmt.Sprintf("10.%d.%d.%d%s", i>>16, i>>8&0xff, i&0xff, of))
			}
			if err := h.Do(func() error { return Backend{}.Apply(m) }); err != nil {
				t.Fatal(err)
			}
			cmd := h.Command(t.Context(), "nft", "-f", "-")
			cmd.Stdin = strings.NewReader(fmt.Sprintf("add element inet %s %s { %s }\n", Table, test.set, strings.Join(elements, ", ")))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("nft: %v\n%s", err, out)
			}
			s := labtest.Inspect(t, h, Backend{})
			read := len(s.Progress) + len(s.Grants)
			if s.Partial != test.partial || (read < test.sources) != test.partial || test.partial && read != maxDump {
				t.Errorf("%d of %d sources were read; partial: %v", read, test.sources, s.Partial)
			}
		})
	}
}
