package iptables

import (
	"strconv"
	"strings"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
	"postern/internal/key"
	"postern/internal/lazyregexp"
)

// keyOf comes before whose a code is, in the comment of the rule that knows it.
const keyOf = "postern: key of "

// setCodes fills the chains of codes.
func (r *Ruleset) setCodes(codes []verifier.Code) {
	for f, c := range r.keys {
		c.rules = nil
		for _, code := range codes {
			c.add("", to(r.tokens[f][code.Token]),
				matching("-m mark --mark 0x%x/0x%x", code.Number, uint32(bpf.Closing-1)), matching("-m comment --comment %q", keyOf+code.Token.Name()))
		}
	}
}

// A knownCode is what loaded rules know of a code.
type knownCode struct {
	name  string   // whose it is: "alice/laptop"
	lists []string // of the sources that it has opened its door for
}

// codes returns the codes that the rules of every family know. It is false if they ask for
// none.
func (c contents) codes() (all map[uint32]knownCode, asked bool) {
	all = map[uint32]knownCode{}
	families, known := 0, map[uint32]int{}
	for _, here := range c {
		i := here.index(prefix + keysChain)
		if i < 0 {
			continue
		}
		families++
		for _, rule := range here.chains[i].rules {
			mark, _, _ := strings.Cut(option(rule, "--mark"), "/")
			code, err := strconv.ParseUint(mark, 0, 32)
			name, ours := strings.CutPrefix(option(rule, "--comment"), keyOf)
			leads := here.index(option(rule, "-g"))
			if err != nil || !ours || leads < 0 {
				continue
			}
			k := knownCode{name, all[uint32(code)].lists}
			for _, rule := range here.chains[leads].rules {
				if m := noted().FindStringSubmatch(rule); m != nil {
					k.lists = append(k.lists, m[1])
				}
			}
			all[uint32(code)] = k
			known[uint32(code)]++
		}
	}
	for code, n := range known {
		if n < families {
			delete(all, code)
		}
	}
	return all, families > 0
}

// noted finds in a rule which list it puts a source on.
var noted = lazyregexp.New(`--set --name (\S+)`)

// inspectKeys adds to a status what verifies tokens, where the loaded rules ask for it.
func (c contents) inspectKeys(status *firewall.Status) error {
	known, asked := c.codes()
	if !asked {
		return nil
	}
	return verifier.Inspect(status, bpf.Mark, func() (map[uint32]string, error) {
		names := map[uint32]string{}
		for code, k := range known {
			names[code] = k.name
		}
		return names, nil
	})
}

// readOpened reads for whom keys have opened doors: of each, the sources that it did last for,
// as many as xt_recent remembers.
func (c contents) readOpened(keys []firewall.KeyUse, now clock) error {
	known, _ := c.codes()
	for i := range keys {
		keys[i].Opened = nil
		for _, list := range known[keys[i].Code].lists {
			all, err := readList(list, now)
			if err != nil {
				return err
			}
			for _, e := range all {
				if e.age < openFor {
					keys[i].Opened = append(keys[i].Opened, firewall.Opening{Source: e.source, When: now.at.Add(-e.age)})
				}
			}
		}
	}
	return nil
}

// Forget makes a device unknown to the program that runs.
func (Backend) Forget(d key.Device) error { return verifier.Forget(d) }

// Verifying reports whether the program is there.
func (Backend) Verifying() (bool, error) { return verifier.Running() }

// StopVerifying detaches the program, wherever it is.
func (Backend) StopVerifying() (bool, error) { return verifier.Stop() }

// VerifyEverywhere loads the program anew, for all interfaces, if one has none, or has it
// follow the kernel's clock.
func (b Backend) VerifyEverywhere(m *automaton.Machine) error {
	return verifier.Everywhere(m, bpf.Mark, func(codes []verifier.Code, _ bpf.Codes) error {
		r := Compile(m)
		r.setCodes(codes)
		return retry(func() error { _, err := b.replace(r); return err })
	})
}

// VerifyEverywhere does what the backend's does, if the interfaces or TAI are not as when
// it was called last.
func (k *keeper) VerifyEverywhere(m *automaton.Machine) error {
	return k.interfaces.Once(func() error { return k.Backend.VerifyEverywhere(m) })
}
