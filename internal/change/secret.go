package change

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
)

// A secret is what only one host knows.
type secret struct {
	Secret []byte `json:"secret"`
}

const secretSize = 16

// A SecretError says why a host has no secret, or that it has another one now.
type SecretError struct {
	File     string
	Trouble  string // a verb, to follow the file's name
	Err      error
	Replaced bool // it was damaged, and there is another one
}

func (e *SecretError) Error() string { return fmt.Sprintf("%s %s (%v)", e.File, e.Trouble, e.Err) }

func (e *SecretError) Unwrap() error { return e.Err }

// aboutSecret returns what is wrong with the file. Its name is said once, and that of a second
// one, which was to replace it, not at all.
func (p *Place) aboutSecret(trouble string, err error) *SecretError {
	if path, is := errors.AsType[*fs.PathError](err); is {
		err = path.Err
	}
	return &SecretError{File: p.SecretFile(), Trouble: trouble, Err: err}
}

// Secret returns what only this host knows, which is the same as long as its directory lasts:
// automaton.Machine says what for. It is made when it is first asked for. The error is a
// *SecretError, and no reason not to load rules. Beside a secret it says that a damaged one was
// replaced; what only cannot be read stays.
func (p *Place) Secret() ([]byte, error) {
	there, damage, err := p.readSecret()
	if there != nil || err != nil {
		return there, err
	}
	s := secret{make([]byte, secretSize)}
	rand.Read(s.Secret) // never fails
	if err := write(p.SecretFile(), s); err != nil {
		if fault := p.SecretFault(); fault != nil { // which says it as where nobody has tried
			return nil, fault
		}
		return nil, p.aboutSecret(cannotMake, err)
	}
	if damage != nil {
		e := p.aboutSecret("was damaged", damage)
		e.Replaced = true
		return s.Secret, e
	}
	return s.Secret, nil
}

const cannotMake = "cannot be made"

// readSecret returns the secret, if there is one, or what is wrong with the text of its file.
func (p *Place) readSecret() (there []byte, damage, err error) {
	s, err := read[secret](p.SecretFile())
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return nil, nil, p.aboutSecret("cannot be read", err)
	}
	switch {
	case err != nil:
		return nil, errors.Unwrap(err), nil
	case s == nil:
		return nil, nil, nil
	case len(s.Secret) < secretSize:
		return nil, errors.New("it is too short"), nil
	}
	return s.Secret, nil, nil
}
