package change

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SecretFault returns why Secret would return none; nil if it would. It changes nothing.
func (p *Place) SecretFault() error {
	there, damage, err := p.readSecret()
	if there != nil || err != nil {
		return err
	}
	trouble := cannotMake
	if damage != nil {
		trouble = "is damaged, and cannot be replaced"
		if err := unix.Access(p.SecretFile(), unix.W_OK); errors.Is(err, unix.EPERM) { // immutable
			return p.aboutSecret(trouble, err)
		}
	}
	dir := p.state
	err = mayMake(dir)
	for errors.Is(err, unix.ENOENT) && dir != filepath.Dir(dir) { // up makes directories as well
		dir = filepath.Dir(dir)
		err = mayMake(dir)
	}
	if err != nil {
		return p.aboutSecret(trouble, err)
	}
	return nil
}

// mayMake returns why no file can be made in a directory.
func mayMake(dir string) error { return unix.Access(dir+"/", unix.W_OK|unix.X_OK) }
