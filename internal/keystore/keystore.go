// Package keystore keeps keys of saved hosts in the system's store of secrets, in place
// of the hosts file: the Secret Service of a Linux or BSD desktop (GNOME Keyring,
// KWallet, KeePassXC), the Keychain of macOS, or the Credential Manager of Windows.
//
// A key is found there by the name of its host, for the service "postern". The store may
// ask the user to unlock it.
package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zalando/go-keyring"

	"postern/internal/document"
	"postern/internal/key"
)

// service is what all of the keys are for, as the store has it.
const service = "postern"

// timeout is how long the store may take: a person may have to type a password.
const timeout = time.Minute

// errNoBus reports that a session has no way to a store.
var errNoBus = errors.New("this session has no D-Bus session bus")

// errLate reports that the store has not answered.
var errLate = fmt.Errorf("no answer within %s", document.FormatDuration(timeout))

// An Error reports that the store has not done what it was asked for.
type Error struct {
	Op   string // "read", "save" or "delete"
	Host string
	Err  error
}

func (e *Error) Error() string {
	what := e.Err.Error()
	switch {
	case e.Unknown():
		what = "it has none"
	case errors.Is(e.Err, keyring.ErrUnsupportedPlatform):
		what = "this system has no such store"
	}
	return fmt.Sprintf("cannot %s the key of host %s in the system's key store: %s", e.Op, document.Quoted(e.Host), what)
}

func (e *Error) Unwrap() error { return e.Err }

// Unknown reports whether there is a store, and it has no key of the host.
func (e *Error) Unknown() bool { return errors.Is(e.Err, keyring.ErrNotFound) }

// Hints returns what to do about it.
func (e *Error) Hints() []string {
	switch {
	case e.Unknown():
		return []string{fmt.Sprintf("ask for a new link: \"postern add --force - %s\" reads it", e.Host)}
	case errors.Is(e.Err, errLate):
		return []string{"unlock the store, and try again"}
	}
	return []string{
		"log in on the desktop of this machine, where the store is",
		fmt.Sprintf("or keep the key in the hosts file: \"postern add --force --keyring=false - %s\" reads a link", e.Host),
	}
}

// Get returns the key of a host, from an entry of the store. The error is an *Error, or
// the context's.
func Get(ctx context.Context, host, entry string) (c key.Credential, err error) {
	err = ask(ctx, "read", host, func() error {
		text, err := keyring.Get(service, entry)
		if err != nil {
			return err
		}
		c, err = key.DecodeCredential(text)
		return err
	})
	return c, err
}

// Change saves the key of a host in an entry of the store, in place of the one that it had,
// or deletes that if there is no new one; then it calls save, and if that fails puts back what was there. The
// error is save's, an *Error, or the context's.
func Change(ctx context.Context, host, entry string, c *key.Credential, save func() error) error {
	set := func(text string) error {
		return ask(ctx, "save", host, func() error { return keyring.Set(service, entry, text) })
	}
	remove := func() error {
		return ask(ctx, "delete", host, func() error { return keyring.Delete(service, entry) })
	}
	var before string
	err := ask(ctx, "read", host, func() (err error) {
		before, err = keyring.Get(service, entry)
		return err
	})
	old, _ := errors.AsType[*Error](err)
	none := old != nil && old.Unknown()
	switch {
	case err != nil && !none:
		return err
	case c != nil:
		err = set(c.Encode())
	case none:
		err = nil
	default:
		err = remove()
	}
	if err != nil {
		return err
	}
	err = save()
	switch {
	case err == nil:
	case !none:
		err = errors.Join(err, set(before))
	case c != nil:
		err = errors.Join(err, remove())
	}
	return err
}

// ask has the store do something, and waits for it until the context ends.
func ask(ctx context.Context, op, host string, do func() error) error {
	if err := reachable(); err != nil {
		return &Error{op, host, err}
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		if err != nil {
			return &Error{op, host, err}
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(timeout):
		return &Error{op, host, errLate}
	}
}
