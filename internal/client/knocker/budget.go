package knocker

import (
	"time"

	"postern/internal/automaton"
)

// A budget is what a server still counts of the packets that this client sends to
// one address (automaton.Attempts). What comes when nothing is left is a wrong knock
// to the server, so the client waits instead.
//
// Others who knock from the same address or IPv6 /48 spend the same budget, and a
// client does not see that.
type budget struct {
	whole time.Time // when all of it is there again, if nothing more is sent
}

// each is how long the server takes to add one packet to a budget.
var each = time.Second / time.Duration(automaton.Attempts.Rate)

const (
	// reserve is how much sooner than the one before a packet may arrive that was sent
	// at even intervals: the jitter of a network.
	reserve = 100 * time.Millisecond
	// again is the least time in which a system sends a SYN again that is not answered,
	// or on Windows refused.
	again = 500 * time.Millisecond
)

// wait returns how long to wait at a time before n packets may be sent. All of the
// budget is at most automaton.Attempts.Burst.
func (b budget) wait(now time.Time, n int) time.Duration {
	if !b.whole.After(now) {
		return 0
	}
	missing := min(b.whole.Sub(now), each*time.Duration(automaton.Attempts.Burst)) // more if the clock was set back
	return max(missing+each*time.Duration(n-automaton.Attempts.Burst)+reserve, 0)
}

// spend counts n packets that were sent at a time.
func (b *budget) spend(now time.Time, n int) {
	if b.whole.Before(now) {
		b.whole = now
	}
	// The server does not take what is not there.
	b.whole = b.whole.Add(each * time.Duration(n))
	if empty := now.Add(each * time.Duration(automaton.Attempts.Burst)); b.whole.After(empty) {
		b.whole = empty
	}
}

// spendSYN counts the SYN of a connection that did not come about within a time, and
// those that the system has sent after it.
func (b *budget) spendSYN(now time.Time, waited time.Duration) {
	b.spend(now, 1+int(waited/again))
}
