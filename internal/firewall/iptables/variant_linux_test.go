package iptables

import (
	"strings"
	"testing"

	"postern/internal/lab"
)

// TestOtherVariant: a machine that has changed from one variant to the other still
// runs the rules of the first. They are seen, and the next Apply takes their place.
func TestOtherVariant(t *testing.T) {
	t.Parallel()
	const file, next = "testdata/guard.yaml", "testdata/everything.yaml"
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		first := Backend{Variant: variants[0]}
		if b == first {
			first.Variant = variants[1]
		}
		has := func(h *lab.Host, b Backend) bool {
			return strings.Contains(listed(t, h, program(b.Variant, IPv4, "save"))+listed(t, h, program(b.Variant, IPv6, "save")), prefix)
		}
		h := lab.NewT(t).Host("host")
		apply(t, h, first, file)
		if s := inspect(t, h, b); !s.Loaded || s.Altered || s.Digest != b.Digest(machine(t, file)) {
			t.Errorf("by the other variant: %+v", s)
		}
		apply(t, h, b, next)
		if s := inspect(t, h, b); s.Altered || s.Digest != b.Digest(machine(t, next)) {
			t.Errorf("by this one: %+v", s)
		}
		if has(h, first) || !has(h, b) {
			t.Errorf("there are older rules: %v, and newer ones: %v", has(h, first), has(h, b))
		}
		m := machine(t, file)
		if err := h.Do(func() error { return first.replace(Compile(m)) }); err != nil { // as a kill would leave it
			t.Fatal(err)
		}
		if s := inspect(t, h, b); !s.Altered || !s.Loaded {
			t.Errorf("by both: %+v", s)
		}
		remove(t, h, b)
		if has(h, first) || has(h, b) {
			t.Errorf("after down there are rules of one: %v, and of the other: %v", has(h, first), has(h, b))
		}
	})
}
