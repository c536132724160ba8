package change

import "time"

// A Pending is newer rules that wait for their confirmation. The state that comes
// back without one is the Saved.
type Pending struct {
	ID       string        `json:"id"`
	Former   string        `json:"former"`  // the ID of the Saved
	Nothing  bool          `json:"nothing"` // no rules were loaded before, though there may be a Saved
	New      Saved         `json:"new"`
	Boot     string        `json:"boot"`     // in which boot of the machine
	Deadline time.Duration `json:"deadline"` // by CLOCK_BOOTTIME, which nobody sets
	Until    time.Time     `json:"until"`    // the same moment, for people
}

// Left returns how much time is left for a confirmation; zero or less if there is
// none. A change that was not confirmed before a reboot has none left.
func (p *Pending) Left() time.Duration {
	if boot, now := clock(); boot == p.Boot {
		return p.Deadline - now
	}
	return 0
}
