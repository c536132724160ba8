//go:build linux

package keystore_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"postern/internal/key"
	"postern/internal/keystore"
	"postern/internal/keystore/keystoretest"
)

func TestStore(t *testing.T) {
	ctx := t.Context()
	// Without a bus nothing is started, and nothing waits.
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	_, err := keystore.Get(ctx, "home", "home")
	says(t, err, "cannot read the key of host \"home\" in the system's key store: this session has no D-Bus session bus", "log in on the desktop")

	folder := t.TempDir()
	bus, err := keystoretest.NewBus(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
	_, err = keystore.Get(ctx, "home", "home")
	says(t, err, "org.freedesktop.secrets", "--keyring=false")

	store, err := bus.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	_, err = keystore.Get(ctx, "home", "home")
	says(t, err, "cannot read the key of host \"home\" in the system's key store: it has none", "ask for a new link")

	done, failed := func() error { return nil }, errors.New("the file is full")
	fail := func() error { return failed }
	a, b := credential(1), credential(2)
	holds := func(want map[string]string) {
		t.Helper()
		if got := store.Secrets(); !maps.Equal(got, want) {
			t.Errorf("the store has %v, want %v", got, want)
		}
	}
	for _, step := range []struct {
		host string
		c    *key.Credential
		save func() error
		want map[string]string
	}{
		{"home", &a, fail, map[string]string{}},
		{"home", nil, done, map[string]string{}}, // which somebody has deleted already
		{"home", &a, done, map[string]string{"postern/home": a.Encode()}},
		{"home", &b, fail, map[string]string{"postern/home": a.Encode()}},
		{"home", nil, fail, map[string]string{"postern/home": a.Encode()}},
		{"work", &a, done, map[string]string{"postern/home": a.Encode(), "postern/work": a.Encode()}},
		{"home", &b, done, map[string]string{"postern/home": b.Encode(), "postern/work": a.Encode()}},
		{"work", nil, done, map[string]string{"postern/home": b.Encode()}},
	} {
		want := step.save()
		if err := keystore.Change(ctx, step.host, step.host, step.c, step.save); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		holds(step.want)
	}
	if got, err := keystore.Get(ctx, "home", "home"); err != nil || got != b {
		t.Errorf("got %v, %v", got, err)
	}

	// The session's bus, as systemd has it.
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", folder)
	if got, err := keystore.Get(ctx, "home", "home"); err != nil || got != b {
		t.Errorf("got %v, %v", got, err)
	}

	// A store that stays locked: its user does not know the password, say.
	store.Lock()
	_, err = keystore.Get(ctx, "home", "home")
	says(t, err, "failed to unlock", "--keyring=false")
	if err := keystore.Change(ctx, "home", "home", nil, func() error { t.Error("saved"); return nil }); err == nil {
		t.Error("a locked store has changed")
	}
	holds(map[string]string{"postern/home": b.Encode()})
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := keystore.Get(over, "home", "home"); err == nil {
		t.Error("got a key from a locked store")
	}
}

func credential(n byte) key.Credential {
	return key.Credential{Site: key.Site{n}, Device: key.Device(n), Door: key.Door(n), Secret: key.Secret{n}}
}

// says checks what an error and its hints have in them.
func says(t *testing.T, err error, text, hint string) {
	t.Helper()
	e, ok := errors.AsType[*keystore.Error](err)
	if !ok || !strings.Contains(e.Error(), text) || !strings.Contains(strings.Join(e.Hints(), "\n"), hint) {
		t.Errorf("got %v; want %q, and the hint %q", err, text, hint)
	}
}
