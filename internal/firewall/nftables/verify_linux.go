package nftables

import (
	"encoding/binary"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
	"postern/internal/key"
)

// setCodes fills the maps of codes, with those that lead to a chain of the rule set.
func (r *Ruleset) setCodes(m *automaton.Machine, codes []verifier.Code, early bpf.Codes) {
	chains := map[string]*chain{}
	for _, c := range r.chains {
		chains[c.name] = c
	}
	if r.keys != nil {
		r.keys.elements = nil
	}
	for _, code := range codes {
		c := chains[tokenChain(code.Token, m.Doors[code.Token.Door].Name)]
		r.keys.elements = append(r.keys.elements, elementOf(idPart(code.Number)).goingTo(c))
	}
	if early == (bpf.Codes{}) {
		return
	}
	if r.early != nil {
		r.early.elements = []element{
			elementOf(idPart(early.Counted())).goingTo(chains["counted"]), elementOf(idPart(early.Over())).goingTo(chains["counted_over"]),
		}
	}
	if r.told != nil {
		r.early.elements = append(r.early.elements, elementOf(idPart(early.Noted())).goingTo(chains["counted_noted"]))
		r.told.elements = nil
		for left := 1; left <= bpf.NoteParts; left++ { // and the packet comes back, to be judged
			r.told.elements = append(r.told.elements, elementOf(idPart(early.Told(left))).jumpingTo(chains[toldName(left)]))
		}
	}
}

// knownCodes returns the codes that the loaded rules know, with whose each is, as in
// "alice/laptop".
func knownCodes() (map[uint32]string, error) {
	known := map[uint32]string{}
	err := dumpWhole("keys", func(e element, _ lifetime) {
		if len(e.key) == 4 {
			known[binary.NativeEndian.Uint32(e.key)] = tokenOwner(e)
		}
	})
	return known, err
}

// Forget makes a device unknown to what verifies its tokens.
func (b Backend) Forget(d key.Device) error {
	tags, err := hasTags()
	switch {
	case err != nil:
		return err
	case tags:
		return b.forgetTags(d)
	}
	return verifier.Forget(d)
}

// Verifying reports whether the program is there.
func (Backend) Verifying() (bool, error) { return verifier.Running() }

// StopVerifying detaches the program, wherever it is.
func (Backend) StopVerifying() (bool, error) { return verifier.Stop() }

// VerifyEverywhere loads the program anew, for all interfaces, if one has none, or has it
// follow the kernel's clock. Tags are asked for on all interfaces.
func (b Backend) VerifyEverywhere(m *automaton.Machine) error {
	if tags, err := hasTags(); err != nil || tags {
		return err
	}
	return verifier.Everywhere(m, bpf.Priority, func(codes []verifier.Code, early bpf.Codes) error { return b.addCodes(m, codes, early) })
}

// addCodes adds to the maps of codes what they lack.
func (b Backend) addCodes(m *automaton.Machine, codes []verifier.Code, early bpf.Codes) error {
	if m.Policy.HasKeys() {
		known, err := knownCodes()
		if err != nil {
			return err
		}
		codes = slices.DeleteFunc(codes, func(c verifier.Code) bool { _, leads := known[c.Number]; return leads })
	}
	if len(codes) == 0 && early == (bpf.Codes{}) {
		return nil
	}
	return b.putCodes(Compile(m), m, codes, early)
}

// putCodes adds codes to the maps of the loaded rules.
func (b Backend) putCodes(r *Ruleset, m *automaton.Machine, codes []verifier.Code, early bpf.Codes) error {
	r.setCodes(m, codes, early)
	return b.edit(func(all *batch) {
		for _, s := range []*set{r.keys, r.early, r.told} {
			if s != nil {
				all.addElements(s.name, s.entries())
			}
		}
	})
}

// VerifyEverywhere does what the backend's does, if the interfaces or TAI are not as when
// it was called last. It loads the next tags when it is time, or when the clock was set.
func (k *Keeper) VerifyEverywhere(m *automaton.Machine) error {
	if err := k.renewTags(m); err != nil {
		return err
	}
	return k.interfaces.Once(func() error { return k.Backend.VerifyEverywhere(m) })
}
