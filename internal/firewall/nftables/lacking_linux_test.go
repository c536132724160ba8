package nftables

import (
	"errors"
	"testing"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/lab"
)

// TestLacking: where the kernel lacks a kind of expression, the error names the module
// that has it. Nothing is loaded, not even what tried it. (The kernel may have any of
// these; a lab's host can load no modules that the machine lacks.)
func TestLacking(t *testing.T) {
	h := lab.NewT(t).Host("host")
	var queue, limit, nothing error
	var loaded bool
	if err := h.Do(func() error {
		load := func(e expr.Any) error {
			var b batch
			b.addTable(Table, 0x400, 0)
			c := &chain{name: "c"}
			b.addChain(c)
			b.addRule(c, &rule{statements: []statement{simple("one", &expr.Verdict{Kind: expr.VerdictReturn}), simple("two", e)}})
			return b.commit(nil, 0)
		}
		queue = load(&expr.Queue{Total: 1})
		// A set that is not there is no module that is not there.
		nothing = load(&expr.Lookup{SourceRegister: 1, SetName: "nothing"})
		status, err := Backend{}.Inspect()
		if err == nil {
			loaded = status.Loaded
		}
		limit = load(&expr.Limit{Rate: 1, Unit: expr.LimitTimeSecond})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if lacks, ok := errors.AsType[*firewall.UnsupportedError](nothing); ok || !errors.Is(nothing, unix.ENOENT) {
		t.Errorf("a set that is not there: %v, %v", nothing, lacks)
	}
	if loaded {
		t.Error("what was refused is loaded")
	}
	if limit != nil {
		t.Errorf("what the kernel has: %v", limit)
	}
	if queue == nil {
		t.Skip("this kernel has what the test takes to be missing")
	}
	lacks, ok := errors.AsType[*firewall.UnsupportedError](queue)
	if !ok || lacks.What != "kernel module nft_queue, which the rules need" {
		t.Errorf("queue: %v", queue)
	}
}
