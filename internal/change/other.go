//go:build !linux

package change

import (
	"context"
	"errors"
	"os"
	"time"
)

// Other systems run no rules, and nothing asks for any of this.

// Here returns a place where nothing is kept.
func Here() *Place { return &Place{missing: errors.ErrUnsupported} }

func (p *Place) takeLock(context.Context, func(int)) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

func (p *Pending) schedule([]string) error { return errors.ErrUnsupported }
func (p *Pending) unschedule()             {}

func clock() time.Duration { return 0 }

// Watchdog returns that none runs here.
func (p *Place) Watchdog() (pid int, same bool) { return 0, true }

func (p *Place) pauseWatchdog() (resume func()) { return func() {} }

// SecretFault returns that there is no secret.
func (p *Place) SecretFault() error { return errors.ErrUnsupported }
