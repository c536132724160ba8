package change

import "crypto/rand"

// A secret is what only one host knows.
type secret struct {
	Secret []byte `json:"secret"`
}

// Secret returns what only this host knows, which is the same as long as its directory lasts:
// automaton.Machine says what for. It is made when it is first asked for. It is nil where
// nothing can be kept, and no reason not to load rules.
func (p *Place) Secret() []byte {
	const size = 16
	if s, err := read[secret](p.secretFile()); err == nil && s != nil && len(s.Secret) >= size {
		return s.Secret
	}
	s := secret{make([]byte, size)}
	rand.Read(s.Secret) // never fails
	if err := write(p.secretFile(), s); err != nil {
		return nil
	}
	return s.Secret
}
