package conformance

import (
	"fmt"
	"iter"
	"net/netip"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/key"
)

// A Tagger is a backend whose rules verify tokens by their tags.
type Tagger interface {
	firewall.Backend
	// Know loads tags of all devices and doors of a machine that has been applied, beside
	// those that Apply loads.
	Know(m *automaton.Machine, tags func(key.Credential) iter.Seq2[time.Time, key.Tag]) error
}

// tags are the times of the tokens whose tags a server knows. The lattice of Apply has one in
// eight seconds, and none that counts at once; these are as many as the scenarios under a
// policy take.
type tags struct {
	times map[tokenKind][]time.Time
	taken map[tokenUse]map[tokenKind]int
}

// enough is how many tokens of a kind a device sends for a door.
const enough = 150

// newTags draws times whose tags are loaded now.
func newTags() *tags {
	t := &tags{times: map[tokenKind][]time.Time{}, taken: map[tokenUse]map[tokenKind]int{}}
	now, window := time.Now(), key.DefaultWindow
	for i := range time.Duration(enough) {
		// The right ones are for as long as scenarios last.
		begin, end := now.Add(-window.Behind+20*time.Second), now.Add(window.Ahead)
		t.add(rightToken, begin.Add(i*end.Sub(begin)/enough))
		t.add(earlyToken, now.Add(window.Ahead+20*time.Second+i*time.Second))
		t.add(staleToken, now.Add(-window.Behind+staleSoon-i*staleSoon/(2*enough)))
	}
	return t
}

// staleSoon is how long tokens that are to be stale count at most.
const staleSoon = 200 * time.Millisecond

func (t *tags) add(kind tokenKind, at time.Time) { t.times[kind] = append(t.times[kind], at) }

// of returns the tags of a device and door.
func (t *tags) of(c key.Credential) iter.Seq2[time.Time, key.Tag] {
	return func(yield func(time.Time, key.Tag) bool) {
		for _, all := range t.times {
			for _, at := range all {
				for lane := key.Lane4; lane <= key.Lane6; lane++ {
					token := c.Token(at, netip.Addr{}, lane)
					if !yield(at, token.Tag()) {
						return
					}
				}
			}
		}
	}
}

// timeOf returns the time of the next token of a kind. One that is of none of these has the
// time of one that is right, and does not use it up.
func (t *tags) timeOf(kind tokenKind, use tokenUse) (time.Time, error) {
	switch kind {
	case sameToken: // and none was right
		return time.Now().Add(-10 * time.Minute), nil
	case othersToken, wrongToken:
		return t.times[rightToken][0], nil
	}
	if t.taken[use] == nil {
		t.taken[use] = map[tokenKind]int{}
	}
	n := t.taken[use][kind]
	if n == enough {
		return time.Time{}, fmt.Errorf("no %s token of %s for %s is left", kind, use.device, use.door)
	}
	t.taken[use][kind]++
	return t.times[kind][n], nil
}

// know has the server know tags for what is played next, if it verifies tokens by them.
func (w *testbed) know(m *automaton.Machine) error {
	tagger, ok := w.backend.(Tagger)
	if !ok || !m.Policy.HasKeys() {
		return nil
	}
	w.tags = newTags()
	if err := w.server.Do(func() error { return tagger.Know(m, w.tags.of) }); err != nil {
		return err
	}
	time.Sleep(staleSoon)
	return nil
}
