//go:build !(386 || arm || mips || mipsle)

package draft

import (
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
	h.Unclear = host.Unclear()
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
