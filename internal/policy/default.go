package policy

import "time"

// The defaults of keys that a policy leaves out. All code and texts take them
// from here.
const (
	DefaultStepTimeout = 3 * time.Second
	DefaultRetransmits = RetransmitsIgnore
	DefaultOpenFor     = 10 * time.Second
	DefaultAdmit       = AdmitOne
	DefaultOnClose     = OnCloseKeep

	// A whole address is one source.
	DefaultSourceIPv4 = 32
	DefaultSourceIPv6 = 128

	DefaultLogTarget = LogKernel

	DefaultBound = BoundOptional

	DefaultEarlyDrop = true
)

// SuggestedMark is the mark that a new policy is given, and that one without a mark is
// advised to set. It is none of the bits that WireGuard's tools, Tailscale, Kubernetes,
// Calico's default and Docker's usual plugins use on packets that come in.
const SuggestedMark Mark = 0x1000

// The limits of the times in a policy.
const (
	MinTime        = 100 * time.Millisecond
	MaxStepTimeout = time.Hour
	MaxOpenFor     = 24 * time.Hour
)

// DefaultCover returns the cover of a posture. A closed host does not answer at
// all; where other ports answer, a silent one would stand out.
func (p Posture) DefaultCover() Cover {
	if p == Guard {
		return CoverReset
	}
	return CoverDrop
}

// New returns a policy with a posture and the defaults. It becomes valid with
// its first door.
func New(posture Posture) *Policy {
	return &Policy{
		Posture:   posture,
		Cover:     posture.DefaultCover(),
		EarlyDrop: DefaultEarlyDrop,
		Source:    Source{IPv4: DefaultSourceIPv4, IPv6: DefaultSourceIPv6},
		Log:       Log{Target: DefaultLogTarget},
	}
}

// NewDoor returns a door with a name and the defaults.
func NewDoor(name string) Door {
	return Door{
		Name:    name,
		OpenFor: DefaultOpenFor,
		Admit:   DefaultAdmit,
		OnClose: DefaultOnClose,
		Knock:   Knock{StepTimeout: DefaultStepTimeout, Retransmits: DefaultRetransmits},
	}
}
