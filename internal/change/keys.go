package change

import (
	"postern/internal/automaton"
	"postern/internal/keyfile"
)

// KeysIn returns what reads the secrets of a machine's devices from a keys file, each time
// anew; without a file there are none.
func KeysIn(file string) func() (automaton.Keyring, error) {
	return func() (automaton.Keyring, error) {
		if file == "" {
			return automaton.Keyring{}, nil
		}
		f, err := keyfile.Read(file)
		if err != nil {
			return automaton.Keyring{}, err
		}
		ring := automaton.Keyring{Site: f.Site, Devices: make(map[string]automaton.DeviceKey, len(f.Devices))}
		for i := range f.Devices {
			d := &f.Devices[i]
			ring.Devices[d.Name] = automaton.DeviceKey{ID: d.ID, Secret: d.Secret}
		}
		return ring, nil
	}
}
