package lab

import "fmt"

// An UnavailableError says why this machine has no lab for this user, and what
// to do about it.
type UnavailableError struct {
	Reason string // lower-case, without a final period
	Remedy string
	Err    error // what the kernel said
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("lab: no network namespaces here: %s (%v): %s", e.Reason, e.Err, e.Remedy)
}

func (e *UnavailableError) Unwrap() error { return e.Err }
