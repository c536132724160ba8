package automaton

import "postern/internal/key"

// A Keyring has the secrets of devices, which are no part of a policy. The zero value has
// none.
type Keyring struct {
	Site    key.Site
	Devices map[string]DeviceKey // by the name that Token.Name returns
}

// A DeviceKey is what one device makes its tokens with.
type DeviceKey struct {
	ID     key.Device
	Secret key.Secret
}

// Keyring returns the secrets of the devices that have any, as they are now. A device that
// is not among them opens nothing.
func (m *Machine) Keyring() (Keyring, error) {
	if m.Keys == nil {
		return Keyring{}, nil
	}
	return m.Keys()
}
