package policy

import "time"

// What a key means where a policy leaves it out. Whoever needs one of these, in
// code or in a text, takes it from here.
const (
	DefaultStepTimeout = 3 * time.Second
	DefaultRetransmits = RetransmitsIgnore
	DefaultOpenFor     = 10 * time.Second
	DefaultAdmit       = AdmitOne

	// A whole address is one source.
	DefaultSourceIPv4 = 32
	DefaultSourceIPv6 = 128

	DefaultLogTarget = LogKernel
)

// The limits of the times in a policy.
const (
	MinTime        = 100 * time.Millisecond
	MaxStepTimeout = time.Hour
	MaxOpenFor     = 24 * time.Hour
)

// DefaultCover is the cover of a posture. A closed host does not answer at all;
// on one whose other ports answer, a port that does not would show.
func (p Posture) DefaultCover() Cover {
	if p == Guard {
		return CoverReset
	}
	return CoverDrop
}

// New returns a policy with nothing but a posture and the defaults. It becomes
// valid with its first door.
func New(posture Posture) *Policy {
	return &Policy{
		Posture: posture,
		Cover:   posture.DefaultCover(),
		Source:  Source{IPv4: DefaultSourceIPv4, IPv6: DefaultSourceIPv6},
		Log:     Log{Target: DefaultLogTarget},
	}
}

// NewDoor returns a door with nothing but a name and the defaults.
func NewDoor(name string) Door {
	return Door{
		Name:    name,
		OpenFor: DefaultOpenFor,
		Admit:   DefaultAdmit,
		Knock:   Knock{StepTimeout: DefaultStepTimeout, Retransmits: DefaultRetransmits},
	}
}
