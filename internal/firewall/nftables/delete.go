//go:build linux

package nftables

import "time"

// A repeated statement is written several times in a row.
type repeated struct {
	statement
	times int
}

func (r repeated) text() string {
	text := r.statement.text()
	for range r.times - 1 {
		text += " " + r.statement.text()
	}
	return text
}

func (r repeated) emit(k *known) {
	for range r.times {
		r.statement.emit(k)
	}
}

// deleteReliably repeats the deletion of an element that lives for at least so long, and
// that may be added where another one of its key has expired.
//
// Since Linux 6.8 a deletion by a packet takes the first element of the key,
// also one that has expired and that the kernel has not collected yet, and then
// leaves the one that lives. As a rule the newest element is the first; but when
// the kernel makes a set's hash table anew, their order is turned round. It does
// so when the table grows, and whenever 16 elements of one key, dead or alive,
// have come together: one client that knocks and resets is enough. Its source
// then stayed where it was, in spite of a wrong port or of its next knock.
//
// Elements are collected every second; so many can have expired since.
func deleteReliably(c change, lifetime time.Duration) statement {
	const collected = 1250 * time.Millisecond
	return repeated{c, 2 + int(collected/lifetime)}
}

// shortestGrant returns the shortest time that any grant lives.
func (c *compiler) shortestGrant() time.Duration {
	shortest := c.m.Doors[0].OpenFor
	for i := range c.m.Doors {
		shortest = min(shortest, c.m.Doors[i].OpenFor)
	}
	return shortest
}

// shortestStay returns the shortest time that a source may stay in a state.
func (c *compiler) shortestStay() time.Duration {
	if all := c.timeouts(); len(all) > 0 {
		return all[0]
	}
	return time.Hour // there is no state
}
