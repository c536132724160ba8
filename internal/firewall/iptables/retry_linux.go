package iptables

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"postern/internal/firewall"
)

// errChanged says that others changed the tables meanwhile.
var errChanged = errors.New("other programs keep changing the same tables")

// A partError is a failure after which not everything is as it was before. It is none
// of package firewall's, which say that nothing has changed, or leave it open.
type partError struct {
	left string // what there is now, and what to do about it
	err  error
}

func (e *partError) Error() string { return fmt.Sprintf("%s: %v", e.left, withoutBusy(e.err)) }

// What a partError may leave.
const (
	leftMixed    = "not all that is loaded is of one policy: run `postern up` again"
	leftUnseen   = "the rules are loaded, but cannot be read again to see whether they are whole"
	leftReadable = "the rules are loaded, but everyone on this host can read who is knocking"
	leftUnused   = "the rules are loaded, but an empty chain or table that they do not need could not be deleted"
	leftUndone   = "what was loaded before is there again, but an empty chain or table that was made could not be deleted"
	leftRules    = "not all rules are taken out: run `postern down` again"
	leftNothing  = "the rules are taken out, but an empty chain or table that was made for them could not be deleted"
)

// leaving returns a failure that has left something, or none.
func leaving(left string, err error) error {
	if err == nil {
		return nil
	}
	return &partError{left, err}
}

// withoutBusy is an error that does not claim that nothing has changed.
func withoutBusy(err error) error {
	var busy *firewall.BusyError
	if errors.As(err, &busy) {
		return busy.Err
	}
	return err
}

// retry repeats what failed because of errChanged. What any try has left counts, if
// none succeeds.
func retry(f func() error) error {
	const tries = 6
	var err error
	var part *partError
	for i := range tries {
		err = f()
		if err == nil {
			return nil
		}
		var now *partError
		if errors.As(err, &now) {
			part, err = now, now.err
		}
		if !errors.Is(err, errChanged) {
			break
		}
		// Two of us must not stay in step.
		time.Sleep(time.Duration(rand.IntN(20<<i)) * time.Millisecond)
	}
	switch {
	case part != nil:
		return &partError{part.left, err}
	case errors.Is(err, errChanged):
		return &firewall.BusyError{Err: err}
	}
	return err
}
