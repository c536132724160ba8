package nftables

import (
	"encoding/binary"
	"testing"
	"time"

	"postern/internal/key"
)

// TestDumpWhole adds elements to a set that is being listed, so that the kernel gives its
// hash table another size meanwhile: those from before are listed all the same, and once.
func TestDumpWhole(t *testing.T) {
	t.Parallel()
	const before, after = 2000, 20000
	s := newScene(t)
	m, _ := taggedMachine(t, false)
	s.applyTags(m)
	add := func(from, to int) error {
		tags := make([]entry, 0, to-from)
		for i := from; i < to; i++ {
			var tag key.Tag
			binary.BigEndian.PutUint64(tag[:], uint64(i))
			tags = append(tags, entry{element: element{key: tag[:], data: idBytes(1)}, expire: time.Hour})
		}
		for len(tags) > 0 {
			n := min(len(tags), partSize)
			if err := (Backend{}).edit(func(all *batch) { all.addElements("tags", tags[:n]) }); err != nil {
				return err
			}
			tags = tags[n:]
		}
		return nil
	}
	times := map[uint64]int{}
	if err := s.Gateway.Do(func() error {
		if err := (Backend{}).edit(func(all *batch) { all.flushSet("tags") }); err != nil {
			return err
		}
		if err := add(0, before); err != nil {
			return err
		}
		var failed error
		err := dumpWhole("tags", func(e element, _ lifetime) {
			if len(times) == 0 {
				failed = add(before, before+after)
			}
			times[binary.BigEndian.Uint64(e.key)]++
		})
		if err == nil {
			err = failed
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	lacking, repeated := 0, 0
	for i := range uint64(before) {
		switch times[i] {
		case 0:
			lacking++
		case 1:
		default:
			repeated++
		}
	}
	if lacking > 0 || repeated > 0 {
		t.Errorf("of %d elements, %d are not listed, and %d more than once", before, lacking, repeated)
	}
}
