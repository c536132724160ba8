// Package keystoretest is a Secret Service, as desktops on Linux have it, on a D-Bus of
// its own. It has what a client needs that keeps one secret for each of several users of
// a service (https://specifications.freedesktop.org/secret-service): the bus, the
// messages and the client's side of them are real, and the secrets are in memory.
package keystoretest

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

const (
	name       = "org.freedesktop.secrets"
	root       = dbus.ObjectPath("/org/freedesktop/secrets")
	collection = root + "/collection/login"
	none       = dbus.ObjectPath("/") // no prompt
)

// config is that of a bus that starts no program.
const config = `<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// A Bus is a D-Bus, perhaps with a store on it.
type Bus struct {
	Address string
	daemon  *exec.Cmd
	conn    *dbus.Conn
}

// NewBus starts a bus, with its socket in a folder.
func NewBus(folder string) (*Bus, error) {
	file := filepath.Join(folder, "bus.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, filepath.Join(folder, "bus")), 0o600); err != nil {
		return nil, err
	}
	b := &Bus{daemon: exec.Command("dbus-daemon", "--config-file="+file, "--nofork", "--print-address")}
	var said bytes.Buffer // a warning about the number of files, mostly
	b.daemon.Stderr = &said
	out, err := b.daemon.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.daemon.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("dbus-daemon: %w: %s", err, said.String())
	}
	b.Address = strings.TrimSpace(line)
	return b, nil
}

// Close ends the bus and what is on it.
func (b *Bus) Close() {
	if b.conn != nil {
		b.conn.Close()
	}
	b.daemon.Process.Kill()
	b.daemon.Wait()
}

// A Store is a store on a bus.
type Store struct {
	conn *dbus.Conn

	mu     sync.Mutex
	locked bool // and whoever is asked to unlock it says no
	items  map[dbus.ObjectPath]*item
	made   int
}

// An item is one secret.
type item struct {
	store      *Store
	path       dbus.ObjectPath
	attributes map[string]string
	value      []byte
}

// A secret is one as D-Bus has it.
type secret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// NewStore puts a store on the bus.
func (b *Bus) NewStore() (*Store, error) {
	conn, err := dbus.Connect(b.Address)
	if err != nil {
		return nil, err
	}
	b.conn = conn
	s := &Store{conn: conn, items: map[dbus.ObjectPath]*item{}}
	for _, o := range []struct {
		object any
		path   dbus.ObjectPath
		what   string
	}{
		{service{s}, root, "Service"}, {box{s}, collection, "Collection"}, {session{}, root + "/session/1", "Session"}, {prompt{s}, root + "/prompt/1", "Prompt"},
	} {
		if err := conn.Export(o.object, o.path, "org.freedesktop.Secret."+o.what); err != nil {
			return nil, err
		}
	}
	_, err = prop.Export(conn, root, prop.Map{"org.freedesktop.Secret.Service": {"Collections": {Value: []dbus.ObjectPath{collection}}}})
	if err != nil {
		return nil, err
	}
	if _, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
		return nil, err
	}
	return s, nil
}

// Lock locks the store: nobody unlocks it.
func (s *Store) Lock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locked = true
}

// Secrets returns the secrets by what they are for, "SERVICE/USER".
func (s *Store) Secrets() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for _, i := range s.items {
		all[i.attributes["service"]+"/"+i.attributes["username"]] = string(i.value)
	}
	return all
}

type service struct{ *Store }

func (s service) OpenSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	return dbus.MakeVariant(""), root + "/session/1", nil
}

func (s service) Unlock(what []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked {
		return []dbus.ObjectPath{}, root + "/prompt/1", nil
	}
	return what, none, nil
}

type prompt struct{ *Store }

func (p prompt) Prompt(string) *dbus.Error {
	go p.conn.Emit(root+"/prompt/1", "org.freedesktop.Secret.Prompt.Completed", true, dbus.MakeVariant([]dbus.ObjectPath{}))
	return nil
}

type session struct{}

func (session) Close() *dbus.Error { return nil }

type box struct{ *Store }

func (b box) SearchItems(want map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := []dbus.ObjectPath{}
	for path, i := range b.items {
		if maps.Equal(i.attributes, want) {
			found = append(found, path)
		}
	}
	return found, nil
}

func (b box) CreateItem(properties map[string]dbus.Variant, value secret, replace bool) (dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	attributes, ok := properties["org.freedesktop.Secret.Item.Attributes"].Value().(map[string]string)
	if !ok || !replace {
		return none, none, dbus.MakeFailedError(fmt.Errorf("an item is made of %v", properties))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for path, i := range b.items {
		if maps.Equal(i.attributes, attributes) {
			i.value = value.Value
			return path, none, nil
		}
	}
	b.made++
	i := &item{b.Store, collection + dbus.ObjectPath(fmt.Sprintf("/%d", b.made)), attributes, value.Value}
	if err := b.conn.Export(i, i.path, "org.freedesktop.Secret.Item"); err != nil {
		return none, none, dbus.MakeFailedError(err)
	}
	b.items[i.path] = i
	return i.path, none, nil
}

// GetSecret returns the secret to a client.
func (i *item) GetSecret(in dbus.ObjectPath) (secret, *dbus.Error) {
	i.store.mu.Lock()
	defer i.store.mu.Unlock()
	if i.store.locked {
		return secret{}, dbus.NewError("org.freedesktop.Secret.Error.IsLocked", nil)
	}
	return secret{in, []byte{}, i.value, "text/plain; charset=utf8"}, nil
}

// Delete deletes the secret for a client.
func (i *item) Delete() (dbus.ObjectPath, *dbus.Error) {
	i.store.mu.Lock()
	defer i.store.mu.Unlock()
	delete(i.store.items, i.path)
	return none, nil
}
