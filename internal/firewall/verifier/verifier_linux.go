package verifier

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/policy"
)

// A Verifier is the program that verifies the tokens of a machine, and drops early what the
// machine lets it, loaded and not yet attached. A nil one is that of a machine that has no
// use for it.
type Verifier struct {
	machine *automaton.Machine
	carrier bpf.Carrier
	program *bpf.Program // nil if it cannot be loaded
	indexes []int        // of the interfaces that it is for
	others  bool         // verify in its place
	instead []bpf.Pair   // what they verify
	keys    automaton.Keyring
	noKeys  error // why there are no keys
	lacks   error // why no token counts
}

// New loads the program for a machine, and for rules that look for codes in one place. It
// is nil if the machine has no tokens and lets nothing be dropped early. What runs goes on
// until Attach. Where there can be no program, or no keys can be read, there are only the
// rules: what the policy hides must be hidden all the same. They drop by themselves what
// might be dropped early. The caller must call Close.
func New(m *automaton.Machine, c bpf.Carrier) *Verifier {
	if !m.Policy.HasKeys() && !m.Parameters.Early {
		return nil
	}
	v := &Verifier{machine: m, carrier: c}
	if m.Policy.HasKeys() {
		v.keys, v.noKeys = m.Keyring()
		v.lacks = v.noKeys
	}
	if err := v.load(); err != nil && m.Policy.HasKeys() {
		v.lacks = verifying(err)
	}
	return v
}

func (v *Verifier) load() error {
	running, err := bpf.Find()
	if err != nil {
		return err
	}
	defer running.Close()
	if running.Hidden() {
		return unix.EPERM
	}
	for _, i := range running.Interfaces() {
		if verifies(i) {
			v.indexes = append(v.indexes, i.Index)
		}
	}
	p := v.machine.Policy
	v.program, err = bpf.Load(bpf.Config{
		Site: v.keys.Site, Port: p.Keys.Port.Number, Window: key.DefaultWindow,
		MustBind: p.Keys.Bound == policy.BoundRequired, Carrier: v.carrier, Early: bpf.NewEarly(v.machine),
	}, Devices(v.machine, v.keys), running)
	return err
}

// Keys returns the keys of the machine.
func (v *Verifier) Keys() automaton.Keyring { return v.keys }

// Unsupported returns why this host can have no program; nil if it has one.
func (v *Verifier) Unsupported() *firewall.UnsupportedError {
	if lacks, ok := errors.AsType[*firewall.UnsupportedError](v.lacks); ok && v.program == nil {
		return lacks
	}
	return nil
}

// Instead says that others verify some tokens, in place of a program that this host can
// not have; or why they do not.
func (v *Verifier) Instead(pairs []bpf.Pair, lacks error) {
	if v.lacks = lacks; lacks == nil {
		v.others, v.instead, v.lacks = true, pairs, v.noKeys
	}
}

// Devices returns the devices of a machine that have keys, with what they open.
func Devices(m *automaton.Machine, keys automaton.Keyring) (all []bpf.Device) {
	at := map[string]int{}
	for i := range m.Tokens {
		t := &m.Tokens[i]
		k, enrolled := keys.Devices[t.Name()]
		if !enrolled {
			continue
		}
		n, known := at[t.Name()]
		if !known {
			n = len(all)
			at[t.Name()] = n
			all = append(all, bpf.Device{ID: k.ID, Secret: k.Secret, Until: t.User.Until})
		}
		all[n].Doors = append(all[n].Doors, key.DoorID(m.Doors[t.Door].Name))
	}
	return all
}

// Attach has the program do its work in place of the one that does. Without a verifier, or
// where no program can be loaded and none is missed, nothing does any more. The rules are
// loaded before.
func (v *Verifier) Attach() error {
	if v == nil || v.others || v.program == nil && v.lacks == nil {
		if _, err := Stop(); err != nil || v == nil {
			return err
		}
	}
	if v.program != nil {
		if err := v.program.Attach(v.indexes...); err != nil {
			if !v.machine.Policy.HasKeys() {
				return nil // the rules do all the work; status says so
			}
			return fmt.Errorf("the rules are loaded, but tokens may not be verified: %w", err)
		}
	}
	if v.lacks != nil {
		return fmt.Errorf("the rules are loaded, but no key opens a door: %w", v.lacks)
	}
	return nil
}

// Close lets go of the program, which stays where it is attached.
func (v *Verifier) Close() {
	if v != nil && v.program != nil {
		v.program.Close()
	}
}

// Detach takes away what verifies tokens for the rules of one backend, by where these look for
// codes: rules of another one may be loaded, that are to stay.
func Detach(c bpf.Carrier) error {
	running, err := bpf.Find()
	if err != nil {
		return err
	}
	defer running.Close()
	switch {
	case running.Loaded():
		if others, known := running.Carrier(); known && others != c {
			return nil
		}
		return bpf.Detach()
	case running.Hidden():
		return &firewall.PermissionError{Err: unix.EPERM, Programs: true}
	}
	return nil
}

// Running does what firewall.KeyVerifier says of Verifying. Who may not look sees nothing.
func Running() (bool, error) {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
			err = nil
		}
		return false, err
	}
	defer running.Close()
	return running.Loaded(), nil
}

// Stop does what firewall.KeyVerifier says of StopVerifying. Who may not has had nothing.
func Stop() (bool, error) {
	running, err := bpf.Find()
	if err == nil {
		defer running.Close()
		if !running.Loaded() {
			return false, nil
		}
		err = bpf.Detach()
	}
	if NotPermitted(err) {
		return false, nil
	}
	return err == nil, err
}

// Forget makes a device unknown to the program that runs.
func Forget(d key.Device) error {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
			return &firewall.PermissionError{Err: err, Programs: true}
		}
		return err
	}
	defer running.Close()
	return running.Revoke(d)
}

func verifying(err error) error {
	if lacks, ok := errors.AsType[*firewall.UnsupportedError](err); ok {
		return lacks
	}
	if NotPermitted(err) {
		return &firewall.UnsupportedError{What: "permission to load BPF programs, which verify tokens",
			Hint: "load the policy as root of the machine; containers and user namespaces may not", Err: err}
	}
	return fmt.Errorf("loading the program that verifies tokens: %w", err)
}

// NotPermitted reports whether BPF programs are not for this process, or this host has none.
func NotPermitted(err error) bool {
	_, lacks := errors.AsType[*firewall.UnsupportedError](err)
	return lacks || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}
