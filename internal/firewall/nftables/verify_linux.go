package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/policy"
)

// A verifier is the program that verifies the tokens of a machine, loaded and not yet
// attached.
type verifier struct {
	program *bpf.Program // nil if it cannot be loaded
	indexes []int        // of the interfaces that it is for
	keys    automaton.Keyring
	lacks   error // why no token counts
}

// newVerifier loads the program for a machine. It is nil if the machine has no tokens.
// What runs goes on until attach. Where there can be no program, or no keys can be read,
// there are only the rules: what the policy hides must be hidden all the same.
func newVerifier(m *automaton.Machine) *verifier {
	if !m.Policy.HasKeys() {
		return nil
	}
	v := &verifier{}
	v.keys, v.lacks = m.Keyring()
	if err := v.load(m); err != nil {
		v.lacks = verifying(err)
	}
	return v
}

func (v *verifier) load(m *automaton.Machine) error {
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
	v.program, err = bpf.Load(verifierConfig(m, v.keys), devices(m, v.keys), running)
	return err
}

// pairs returns the devices and doors of the program, with their codes.
func (v *verifier) pairs() []bpf.Pair {
	if v.program == nil {
		return nil
	}
	return v.program.Pairs()
}

func verifying(err error) error {
	if lacks, ok := errors.AsType[*firewall.UnsupportedError](err); ok {
		return lacks
	}
	if notPermitted(err) {
		return &firewall.UnsupportedError{What: "permission to load BPF programs, which verify tokens",
			Hint: "load the policy as root of the machine; containers and user namespaces may not", Err: err}
	}
	return fmt.Errorf("loading the program that verifies tokens: %w", err)
}

// notPermitted reports whether BPF programs are not for this process, or this host has none.
func notPermitted(err error) bool {
	_, lacks := errors.AsType[*firewall.UnsupportedError](err)
	return lacks || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// verifies reports whether tokens can arrive at an interface.
func verifies(i bpf.Interface) bool { return i.Name != "lo" }

// verifierConfig returns what the program asks of all tokens.
func verifierConfig(m *automaton.Machine, keys automaton.Keyring) bpf.Config {
	p := m.Policy
	return bpf.Config{
		Site: keys.Site, Port: p.Keys.Port.Number, Window: key.DefaultWindow,
		MustBind: p.Keys.Bound == policy.BoundRequired,
	}
}

// devices returns the devices of a machine that have keys, with what they open.
func devices(m *automaton.Machine, keys automaton.Keyring) (all []bpf.Device) {
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

// codes fills the map of codes, with those that lead to a chain of the rule set.
func (r *Ruleset) codes(m *automaton.Machine, keys automaton.Keyring, pairs []bpf.Pair) {
	chains := map[string]*chain{}
	for _, c := range r.chains {
		chains[c.name] = c
	}
	type pair struct {
		device key.Device
		door   key.Door
	}
	leads := map[pair]*chain{}
	for i := range m.Tokens {
		t := &m.Tokens[i]
		if k, enrolled := keys.Devices[t.Name()]; enrolled {
			d := m.Doors[t.Door].Name
			leads[pair{k.ID, key.DoorID(d)}] = chains[tokenChain(t, d)]
		}
	}
	r.keys.elements = nil
	for _, p := range pairs {
		if c := leads[pair{p.Device, p.Door}]; c != nil {
			r.keys.elements = append(r.keys.elements, elementOf(idPart(p.Code)).goingTo(c))
		}
	}
}

// attach has the program verify tokens in place of the one that does. Without a verifier
// nothing does any more.
func (v *verifier) attach() error {
	if v == nil {
		if err := detach(); !notPermitted(err) {
			return err
		}
		return nil // who may not has had none
	}
	if v.program != nil {
		if err := v.program.Attach(v.indexes...); err != nil {
			return fmt.Errorf("the rules are loaded, but tokens may not be verified: %w", err)
		}
	}
	if v.lacks != nil {
		return fmt.Errorf("the rules are loaded, but no key opens a door: %w", v.lacks)
	}
	return nil
}

// detach takes away what verifies tokens.
func detach() error {
	running, err := bpf.Find()
	if err != nil {
		return err
	}
	defer running.Close()
	switch {
	case running.Loaded():
		return bpf.Detach()
	case running.Hidden():
		return unix.EPERM
	}
	return nil
}

func (v *verifier) close() {
	if v != nil && v.program != nil {
		v.program.Close()
	}
}

// inspectKeys adds to a status what verifies tokens, where the loaded table asks for it.
func inspectKeys(status *firewall.Status) error {
	running, err := bpf.Find()
	if err != nil {
		if notPermitted(err) {
			status.Keyless = true
			return nil
		}
		return verifying(err)
	}
	defer running.Close()
	pairs, err := running.Pairs()
	if err != nil {
		return err
	}
	status.Keyless = len(pairs) == 0 && !running.Hidden()
	known, err := dumpCodes()
	if err != nil {
		return err
	}
	for _, p := range pairs {
		name, leads := known[p.Code]
		status.Keys = append(status.Keys, firewall.KeyUse{Device: p.Device, Door: p.Door, Name: name, Code: p.Code})
		status.Altered = status.Altered || !leads
	}
	for _, i := range running.Interfaces() {
		if verifies(i) && !i.Attached && isUp(i.Index) {
			status.Bare = append(status.Bare, i.Name)
		}
	}
	return nil
}

// dumpCodes returns the codes that the loaded rules know, with whose each is, as in
// "alice/laptop".
func dumpCodes() (map[uint32]string, error) {
	known := map[uint32]string{}
	_, err := dump("keys", func(e element, _ lifetime) bool {
		if len(e.key) == 4 {
			known[binary.NativeEndian.Uint32(e.key)] = tokenOwner(e)
		}
		return true
	})
	return known, err
}

// isUp reports whether packets can arrive at an interface.
func isUp(index int) bool {
	i, err := net.InterfaceByIndex(index)
	return err == nil && i.Flags&net.FlagUp != 0
}

// Forget makes a device unknown to the program that runs.
func (Backend) Forget(d key.Device) error {
	running, err := bpf.Find()
	if err != nil {
		if notPermitted(err) {
			return &firewall.PermissionError{Err: err}
		}
		return err
	}
	defer running.Close()
	return running.Revoke(d)
}

// VerifyEverywhere loads the program anew, for all interfaces, if one has none.
func (b Backend) VerifyEverywhere(m *automaton.Machine) error {
	if !m.Policy.HasKeys() {
		return nil
	}
	running, err := bpf.Find()
	if err != nil {
		return verifying(err)
	}
	bare := slices.ContainsFunc(running.Interfaces(), func(i bpf.Interface) bool { return verifies(i) && !i.Attached })
	running.Close()
	if !bare {
		return nil
	}
	v := newVerifier(m)
	defer v.close()
	if v.lacks != nil {
		return v.lacks
	}
	if err := b.addCodes(m, v); err != nil {
		return err
	}
	return v.attach()
}

// addCodes adds to the map of codes what it lacks of a program that is to be attached:
// the keys may have changed since the rules were loaded. What runs until then needs the
// other codes.
func (b Backend) addCodes(m *automaton.Machine, v *verifier) error {
	known, err := dumpCodes()
	if err != nil {
		return err
	}
	lacking := slices.DeleteFunc(v.pairs(), func(p bpf.Pair) bool { _, leads := known[p.Code]; return leads })
	if len(lacking) == 0 {
		return nil
	}
	r := Compile(m)
	r.codes(m, v.keys, lacking)
	return b.edit(func(all *batch) { all.addElements(r.keys.name, r.keys.entries()) })
}

// StopVerifying detaches the program, wherever it is. Who may not has had none.
func (Backend) StopVerifying() (bool, error) {
	running, err := bpf.Find()
	if err == nil {
		defer running.Close()
		if !running.Loaded() {
			return false, nil
		}
		err = bpf.Detach()
	}
	if notPermitted(err) {
		return false, nil
	}
	return err == nil, err
}

// VerifyEverywhere does what the backend's does, if there are other interfaces than when
// it was called last.
func (k *Keeper) VerifyEverywhere(m *automaton.Machine) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	indexes := make([]int, len(all))
	for i := range all {
		indexes[i] = all[i].Index
	}
	if slices.Sort(indexes); slices.Equal(indexes, k.interfaces) {
		return nil
	}
	err = k.Backend.VerifyEverywhere(m)
	if err == nil {
		k.interfaces = indexes
	}
	return err
}
