//go:build !(386 || arm || mips || mipsle)

package draft

import (
	"cmp"
	"os"
	"slices"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

type rulesOfOthers struct{ rules *otherrules.Rules }

// Look asks the host, and the network namespace of the calling thread. What it may
// not read is left out.
func Look() (*Host, error) {
	listening, err := host.Listening()
	if err != nil {
		return nil, err
	}
	h := &Host{}
	programs := host.Programs()
	for _, port := range listening {
		h.Listening = append(h.Listening, Listener{port, programs[port]})
	}
	for _, way := range host.WayIn() {
		if way.By != "SSH" {
			continue
		}
		h.Address = way.Original.Addr()
		// Where a rule redirects one to the other, backends see either.
		for _, number := range []uint16{way.Original.Port(), way.Local.Port()} {
			if p := (policy.Port{Protocol: policy.TCP, Number: number}); !slices.Contains(h.loggedInAt, p) {
				h.loggedInAt = append(h.loggedInAt, p)
			}
		}
		break
	}
	h.first, h.last = host.Ephemeral()
	receiving, err := host.Receiving()
	if err != nil {
		return nil, err
	}
	for _, r := range receiving {
		p := policy.Port{Protocol: policy.UDP, Number: r.Local.Port()}
		if p.Number >= h.first && p.Number <= h.last && !slices.Contains(h.Unclear, p) {
			h.Unclear = append(h.Unclear, p)
		}
	}
	slices.SortFunc(h.Unclear, func(a, b policy.Port) int { return cmp.Compare(a.Number, b.Number) })
	if f, err := os.Open("/etc/services"); err == nil {
		defer f.Close()
		h.wellKnown = readServices(f)
	}
	h.rules, _ = otherrules.Read()
	return h, nil
}

// Refusals returns how the rules of others answer ports with nothing behind them.
func (h *Host) Refusals(m *automaton.Machine) []otherrules.Refusal {
	if h.rules == nil {
		return nil
	}
	return h.rules.Refusals(m)
}
