package verifier

import (
	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
)

// A Code is what the program, or what verifies in its place, gives to packets with a right
// token.
type Code struct {
	Number uint32
	Token  *automaton.Token // of the machine
}

// Codes returns the codes of the program, or of what verifies in its place.
func (v *Verifier) Codes() []Code {
	if v == nil {
		return nil
	}
	pairs := v.instead
	if v.program != nil {
		pairs = v.program.Pairs()
	}
	return codes(v.machine, v.keys, pairs)
}

func codes(m *automaton.Machine, keys automaton.Keyring, pairs []bpf.Pair) (all []Code) {
	type pair struct {
		device key.Device
		door   key.Door
	}
	tokens := map[pair]*automaton.Token{}
	for i := range m.Tokens {
		t := &m.Tokens[i]
		if k, enrolled := keys.Devices[t.Name()]; enrolled {
			tokens[pair{k.ID, key.DoorID(m.Doors[t.Door].Name)}] = t
		}
	}
	for _, p := range pairs {
		if t := tokens[pair{p.Device, p.Door}]; t != nil {
			all = append(all, Code{p.Code, t})
		}
	}
	return all
}

// RunningCodes returns those codes of the program that runs which a machine knows. It
// is not ok if none runs that puts them there, or the machine's keys cannot be read.
func RunningCodes(m *automaton.Machine, c bpf.Carrier) (all []Code, ok bool, err error) {
	running, err := bpf.Find()
	if err != nil {
		return nil, false, verifying(err)
	}
	defer running.Close()
	pairs, err := running.Pairs()
	if err != nil {
		return nil, false, err
	}
	keys, err := m.Keyring()
	there, found := running.Carrier()
	return codes(m, keys, pairs), err == nil && found && there == c, nil
}

// Inspect adds to a status what verifies tokens for rules that look for codes in one
// place. Known are the codes that the loaded rules know, with whose each is, as in
// "alice/laptop".
func Inspect(status *firewall.Status, c bpf.Carrier, known func() (map[uint32]string, error)) error {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
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
	if there, found := running.Carrier(); found && there != c {
		pairs = nil
	}
	status.Keyless = len(pairs) == 0 && !running.Hidden()
	names, err := known()
	if err != nil {
		return err
	}
	for _, p := range pairs {
		AddUse(status, p, names)
	}
	for _, i := range running.Interfaces() {
		if verifies(i) && !i.Attached && isUp(i.Index) {
			status.Bare = append(status.Bare, i.Name)
		}
	}
	return nil
}

// AddUse adds to a status a device and a door that tokens are verified for, and whether the
// loaded rules know the code: names says whose each of those is that they know.
func AddUse(status *firewall.Status, p bpf.Pair, names map[uint32]string) {
	name, known := names[p.Code]
	status.Keys = append(status.Keys, firewall.KeyUse{Device: p.Device, Door: p.Door, Name: name, Code: p.Code})
	status.Altered = status.Altered || !known
}
