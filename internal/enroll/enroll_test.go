package enroll

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/keyfile"
	"postern/internal/policy"
)

const twoDoors = `# mine
version: 1
posture: closed
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [7, 9, 8]} # both
  web: {service: tcp/443, knock: {sequence: [17, 19, 18]}}
`

// in writes a policy to a folder of its own.
func in(t *testing.T, text string) *Files {
	t.Helper()
	folder := t.TempDir()
	f := &Files{Policy: filepath.Join(folder, "policy.yaml"), Check: func(*policy.Policy) error { return nil }}
	f.Keys = keyfile.Path(f.Policy)
	if err := os.WriteFile(f.Policy, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return f
}

// now reads both files.
func (f *Files) now(t *testing.T) (*policy.Policy, *keyfile.File, string) {
	t.Helper()
	text, err := os.ReadFile(f.Policy)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(f.Policy, text)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyfile.Read(f.Keys)
	if err != nil {
		t.Fatal(err)
	}
	return p, keys, string(text)
}

// must fails the test on an error.
func must(t *testing.T) func(*Result, error) *Result {
	return func(r *Result, err error) *Result {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// names returns the names of devices.
func names(all []keyfile.Device) string {
	var words []string
	for i := range all {
		words = append(words, all[i].Name)
	}
	return strings.Join(words, " ")
}

// TestLife: a person is added, gets a second device, another key, and goes device by
// device. The policy is then as it was.
func TestLife(t *testing.T) {
	f := in(t, twoDoors)
	end := time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)
	r := must(t)(f.Add(Wish{User: "alice", Device: "laptop", Doors: []string{"ssh"}, Until: end, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}))
	p, keys, text := f.now(t)
	u := p.User("alice")
	if u == nil || u.Devices[0] != "laptop" || !u.Until.Equal(end) || len(u.Networks) != 1 || len(p.Doors[0].Knock.Users) != 1 || len(p.Doors[1].Knock.Users) != 0 {
		t.Fatalf("the policy is now\n%s", text)
	}
	if !p.HasKeys() || p.Keys.Port.Number < firstPort || p.Keys.Port.Number > lastPort {
		t.Errorf("the port of keys is %v", p.Keys.Port)
	}
	first := keys.Find("alice/laptop")
	if first == nil || names(r.New) != "alice/laptop" || r.New[0] != *first || string(r.Text) != text {
		t.Fatalf("the keys are %v, the answer is of %s", keys.Devices, names(r.New))
	}
	if info, err := os.Stat(f.Policy); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the policy's mode is %v, %v", info.Mode(), err)
	}

	must(t)(f.Add(Wish{User: "alice", Device: "phone", Doors: []string{"web", "ssh"}}))
	p, keys, _ = f.now(t)
	if u = p.User("alice"); len(u.Devices) != 2 || !u.Until.Equal(end) || len(p.Doors[1].Knock.Users) != 1 || *keys.Find("alice/laptop") != *first {
		t.Errorf("a second device: %+v", u)
	}
	r = must(t)(f.Rotate("alice", "laptop"))
	_, keys, _ = f.now(t)
	if names(r.New) != "alice/laptop" || names(r.Gone) != "alice/laptop" || r.Gone[0] != *first || *keys.Find("alice/laptop") == *first {
		t.Errorf("rotated: %s for %s", names(r.New), names(r.Gone))
	}

	r = must(t)(f.Revoke("alice", "laptop"))
	p, keys, _ = f.now(t)
	if names(r.Gone) != "alice/laptop" || names(keys.Devices) != "alice/phone" || len(p.User("alice").Devices) != 1 || r.Stays != "" {
		t.Errorf("revoked %s, left %s", names(r.Gone), names(keys.Devices))
	}
	r = must(t)(f.Revoke("alice", ""))
	p, keys, text = f.now(t)
	if names(r.Gone) != "alice/phone" || len(keys.Devices) != 0 || p.HasKeys() || text != twoDoors {
		t.Errorf("revoked %s, left %s and\n%s", names(r.Gone), names(keys.Devices), text)
	}
}

// TestUserStays: whoever alone opens a door stays in the policy, without a key.
func TestUserStays(t *testing.T) {
	f := in(t, "version: 1\nposture: closed\nkeys: {port: udp/99}\nusers: {alice: {devices: [a, b]}, bob: {devices: [c]}}\n"+
		"doors: {ssh: {service: 22, knock: {key: [alice]}}, web: {service: 80, knock: {key: [alice, bob]}}}\n")
	_, _, text := f.now(t)
	must(t)(f.Add(Wish{User: "alice", Device: "a"})) // whom the policy lists already
	must(t)(f.Add(Wish{User: "bob", Device: "c"}))
	r := must(t)(f.Revoke("alice", ""))
	_, keys, now := f.now(t)
	if r.Stays != "ssh" || now != text || names(keys.Devices) != "bob/c" || names(r.Gone) != "alice/a" {
		t.Errorf("stays for door %q; left %s and\n%s", r.Stays, names(keys.Devices), now)
	}
	r = must(t)(f.Revoke("bob", "c"))
	if p, _, _ := f.now(t); p.User("bob") != nil || r.Stays != "" {
		t.Error("bob stays")
	}
}

// TestRevokeAnyway: a key is gone, however the policy is written.
func TestRevokeAnyway(t *testing.T) {
	f := in(t, "version: 1\nposture: closed\nkeys: {port: udp/99}\nusers:\n  alice:\n    devices:\n    - a\n    -\n      c\n"+
		"doors: {ssh: {service: 22, knock: {key: [alice]}}}\n")
	if _, err := keyfile.Change(f.Keys, func(k *keyfile.File) error { k.Enroll("alice/a"); k.Enroll("alice/c"); return nil }); err != nil {
		t.Fatal(err)
	}
	_, _, text := f.now(t)
	r := must(t)(f.Revoke("alice", "c"))
	if _, keys, now := f.now(t); names(keys.Devices) != "alice/a" || names(r.Gone) != "alice/c" || len(r.ByHand) != 1 || now != text || string(r.Text) != text {
		t.Errorf("left %s; by hand: %q", names(keys.Devices), r.ByHand)
	}
}

// TestRefusals: nothing is written where something is wrong, and each says what to do.
func TestRefusals(t *testing.T) {
	add := func(w Wish) func(*Files) (*Result, error) {
		return func(f *Files) (*Result, error) { return f.Add(w) }
	}
	f := in(t, strings.Replace(twoDoors, "doors:", "keys: {port: udp/99}\nusers: {alice: {devices: [laptop, phone]}}\ndoors:", 1))
	text, _ := os.ReadFile(f.Policy)
	os.WriteFile(f.Policy, []byte(strings.Replace(string(text), "[7, 9, 8]", "[7, 9, 8], key: [alice]", 1)), 0o600)
	must(t)(f.Add(Wish{User: "alice", Device: "laptop"}))
	_, before, text2 := f.now(t)
	for name, test := range map[string]struct {
		do   func(*Files) (*Result, error)
		says string
	}{
		"a user without a door": {add(Wish{User: "bob"}), "the policy has several doors"},
		"an unknown door":       {add(Wish{User: "bob", Doors: []string{"ssh", "shh"}}), `no door "shh"`},
		"a bad name":            {add(Wish{User: "b b"}), "user name"},
		"a bad device":          {add(Wish{User: "alice", Device: "1"}), "device name"},
		"no device":             {add(Wish{User: "alice"}), "there is a user alice, with laptop and phone"},
		"a device with a key":   {add(Wish{User: "alice", Device: "laptop"}), "alice/laptop has a key already"},
		"nobody to rotate":      {func(f *Files) (*Result, error) { return f.Rotate("alcie", "") }, `no user "alcie"`},
		"which one to rotate":   {func(f *Files) (*Result, error) { return f.Rotate("alice", "") }, "several devices"},
		"no such device":        {func(f *Files) (*Result, error) { return f.Rotate("alice", "x") }, `no device "x"`},
		"nobody to revoke":      {func(f *Files) (*Result, error) { return f.Revoke("bob", "") }, `no user "bob"`},
		"no device to revoke":   {func(f *Files) (*Result, error) { return f.Revoke("alice", "x") }, `no device "x"`},
		"what the check refuses": {func(f *Files) (*Result, error) {
			g := *f
			g.Check = func(*policy.Policy) error { return errors.New("no") }
			return g.Rotate("alice", "laptop")
		}, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.do(f)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v", err)
			}
			var refusal *Error
			if errors.As(err, &refusal) && len(refusal.Hints()) == 0 {
				t.Error("it does not say what to do")
			}
			if _, after, now := f.now(t); now != text2 || names(after.Devices) != names(before.Devices) || after.Devices[0] != before.Devices[0] {
				t.Error("something is written")
			}
		})
	}
}

// TestTogether: of people who are added at the same time, all are.
func TestTogether(t *testing.T) {
	f := in(t, twoDoors)
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		all.Go(func() {
			if _, err := f.Add(Wish{User: name, Doors: []string{"ssh"}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	p, keys, _ := f.now(t)
	if len(p.Users) != 8 || len(keys.Devices) != 8 || len(p.Doors[0].Knock.Users) != 8 {
		t.Errorf("%d users, %s", len(p.Users), names(keys.Devices))
	}
}

// TestRevokeOfBrokenPolicy: the keys go whatever the policy is like, and nothing goes if
// the keys file is damaged.
func TestRevokeOfBrokenPolicy(t *testing.T) {
	f := in(t, twoDoors)
	must(t)(f.Add(Wish{User: "alice", Device: "a", Doors: []string{"ssh"}}))
	must(t)(f.Add(Wish{User: "alice", Device: "b"}))
	must(t)(f.Add(Wish{User: "bob", Device: "c", Doors: []string{"ssh"}}))
	_, _, text := f.now(t)
	refusing := *f
	refusing.Check = func(*policy.Policy) error { return errors.New("no") }
	r := must(t)(refusing.Revoke("alice", "a"))
	_, keys, now := f.now(t)
	if r.Unlisted == nil || names(r.Gone) != "alice/a" || names(keys.Devices) != "alice/b bob/c" || now != text {
		t.Errorf("unlisted: %v, gone %s, left %s", r.Unlisted, names(r.Gone), names(keys.Devices))
	}
	for _, damage := range []func() error{
		func() error { return os.WriteFile(f.Policy, []byte(text+"bogus: 1\n"), 0o640) },
		func() error { return os.Remove(f.Policy) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		r = must(t)(f.Revoke("alice", ""))
		if r.Unlisted == nil || r.Policy != nil {
			t.Errorf("unlisted: %v, the policy is %v", r.Unlisted, r.Policy)
		}
		if keys, err := keyfile.Read(f.Keys); err != nil || keys.Find("alice/b") != nil || keys.Find("bob/c") == nil {
			t.Errorf("the keys are of %s, %v", names(keys.Devices), err)
		}
		if _, err := f.Revoke("alice", ""); err == nil {
			t.Error("without a key and a policy there is nothing to revoke")
		}
		// Again, from the beginning.
		if err := os.WriteFile(f.Policy, []byte(twoDoors), 0o640); err != nil {
			t.Fatal(err)
		}
		must(t)(f.Add(Wish{User: "alice", Device: "b", Doors: []string{"ssh"}}))
	}
	if err := os.WriteFile(f.Keys, []byte("version: 1\ndevices: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Revoke("alice", ""); err == nil {
		t.Error("a key is revoked in a file that cannot be read")
	}
}
