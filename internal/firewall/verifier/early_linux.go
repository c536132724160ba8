package verifier

import (
	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
)

// Early returns the codes that the program gives to what it counts early. They are zero if it
// counts nothing.
func (v *Verifier) Early() (bpf.Codes, error) {
	if v == nil || v.program == nil {
		return bpf.Codes{}, nil
	}
	return v.program.Codes()
}

// RunningEarly returns the same of the program that runs.
func RunningEarly() (bpf.Codes, error) {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
			return bpf.Codes{}, nil
		}
		return bpf.Codes{}, verifying(err)
	}
	defer running.Close()
	return running.Codes()
}

// A Pause is a time in which nothing is dropped early. So a process that replaces rules may
// be killed at any moment, and leaves no program that drops by the old ones.
type Pause struct {
	running *bpf.Running
	resume  func() error
	blind   bool
}

// PauseEarly begins one. The caller must call Close. A process that may not has nothing to
// pause.
func PauseEarly() (*Pause, error) {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
			return &Pause{blind: true}, nil
		}
		return nil, verifying(err)
	}
	p := &Pause{running: running, blind: running.Hidden()}
	if p.resume, err = running.PauseEarly(); err != nil {
		running.Close()
		return nil, verifying(err)
	}
	return p, nil
}

// Resume goes on as before: the rules are still the old ones.
func (p *Pause) Resume() error {
	if p.resume == nil {
		return nil
	}
	return p.resume()
}

// Blind reports whether a program may run that this process may not look at, and so does
// not pause.
func (p *Pause) Blind() bool { return p.blind }

// Close lets go of the programs. What has not been resumed is to be replaced.
func (p *Pause) Close() {
	if p.running != nil {
		p.running.Close()
	}
}

// InspectEarly adds to a status what is dropped early, where the loaded rules leave that to
// the program. It is as good as blocked by the rules.
func InspectEarly(status *firewall.Status) error {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
			return nil
		}
		return verifying(err)
	}
	defer running.Close()
	if running.Hidden() {
		return nil
	}
	status.Early = &firewall.EarlyDrop{}
	if status.Early.Packets, status.Early.Bytes, err = running.Dropped(); err != nil {
		return err
	}
	codes, err := running.Codes()
	if err != nil || codes == (bpf.Codes{}) {
		return err
	}
	if status.Early.UDP, err = running.CountsUDP(); err != nil {
		return err
	}
	status.Early.Interfaces, err = running.CountedInterfaces()
	return err
}

// Noted calls f with the first knocks that the program has noted, until it returns false.
func Noted(f func(bpf.Noted) bool) error {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
			return nil
		}
		return verifying(err)
	}
	defer running.Close()
	return running.Noted(f)
}

// serveEarly tells the programs that run of interfaces and addresses that have come or
// gone, and reports whether one must be loaded anew.
func serveEarly(m *automaton.Machine, running *bpf.Running) (anew bool, err error) {
	e := bpf.NewEarly(m)
	if e == nil {
		return false, nil
	}
	codes, err := running.Codes()
	if err != nil || codes == (bpf.Codes{}) {
		return true, err
	}
	return false, running.LocateEarly(e)
}
