//go:build !(386 || arm || mips || mipsle)

package otherrules

import (
	"testing"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// TestGeoIP: xtables-addons' match is of a kernel module that few machines have.
func TestGeoIP(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags byte
		want  condition
	}{
		{"from some countries", 1, condition{some: true, who: "from some countries"}},
		{"from all but some", 1 | 4, condition{most: true, who: "from some countries"}},
		{"to some countries", 2, condition{other: true, who: "from some countries"}},
	} {
		info := xt.Unknown{test.flags, 0, 1, 0, 'D', 'E'}
		var got condition
		got.doubtMatch(&expr.Match{Name: "geoip", Info: &info})
		if got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}
