package keyfile

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"postern/internal/document"
	"postern/internal/document/documenttest"
	"postern/internal/key"
	"postern/internal/policy"
	"postern/internal/rewrite"
)

// TestGood parses valid files. Each golden has the text that the file is written as.
func TestGood(t *testing.T) {
	documenttest.Golden(t, "good", "keys.yaml", "written", func(t *testing.T, data []byte) string {
		f, err := Parse("keys.yaml", data)
		if err != nil {
			t.Fatal(err)
		}
		again(t, f)
		return string(f.Format())
	})
}

// TestBad parses invalid files. No error quotes a secret.
func TestBad(t *testing.T) {
	documenttest.Golden(t, "bad", "keys.yaml", "diagnostics", func(t *testing.T, data []byte) string {
		_, err := Parse("keys.yaml", data)
		var invalid *document.InvalidError
		if !errors.As(err, &invalid) {
			t.Fatalf("the error is a %T: %v", err, err)
		}
		documenttest.Pointed(t, data, invalid)
		if strings.Contains(err.Error(), "AECAwQF") {
			t.Error("an error quotes a secret")
		}
		return err.Error() + "\n"
	})
}

// again writes a file and reads it, which must give the same file.
func again(t rapid.TB, f *File) {
	t.Helper()
	got, err := Parse("keys.yaml", f.Format())
	if err != nil {
		t.Fatalf("this was written, and is not valid:\n%s\n%v", f.Format(), err)
	}
	if got.Site != f.Site || !slices.Equal(got.Devices, f.Devices) || !maps.Equal(got.Hosts, f.Hosts) {
		t.Fatalf("the text means something else:\n%s", f.Format())
	}
}

// sound checks what every file from Parse must satisfy.
func sound(t rapid.TB, f *File) {
	t.Helper()
	ids, secrets := map[key.Device]bool{}, map[key.Secret]bool{}
	for i := range f.Devices {
		d := &f.Devices[i]
		user, device, _ := strings.Cut(d.Name, "/")
		if policy.CheckName("user", user) != nil || policy.CheckName("device", device) != nil || d.User() != user {
			t.Errorf("device %q", d.Name)
		}
		if i > 0 && f.Devices[i-1].Name >= d.Name || f.Find(d.Name) != d {
			t.Errorf("%q is not in order", d.Name)
		}
		if d.ID == 0 || d.Secret == (key.Secret{}) || ids[d.ID] || secrets[d.Secret] {
			t.Errorf("%q has no key of its own", d.Name)
		}
		ids[d.ID], secrets[d.Secret] = true, true
	}
	if len(f.Devices) > 0 && f.Site == (key.Site{}) {
		t.Error("devices, and no site")
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no goldens to start from: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse("keys.yaml", data)
		if err == nil {
			sound(t, got)
			again(t, got)
			return
		}
		var invalid *document.InvalidError
		if !errors.As(err, &invalid) {
			t.Fatalf("the error is a %T: %v", err, err)
		}
		documenttest.Pointed(t, data, invalid)
	})
}

// TestDevices: devices come, get other keys and go, and the others keep theirs.
func TestDevices(t *testing.T) {
	names := []string{"alice/laptop", "alice/phone", "alice-b/phone", "bob/laptop"}
	rapid.Check(t, func(t *rapid.T) {
		f, want := &File{}, map[string]Device{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			if old, had := want[name]; rapid.Bool().Draw(t, "enroll") {
				d := f.Enroll(name)
				if had && (d.ID == old.ID || d.Secret == old.Secret) {
					t.Fatalf("%s keeps its key", name)
				}
				want[name] = *d
			} else {
				if f.Drop(name) != had {
					t.Fatalf("%s had a key: %v", name, had)
				}
				delete(want, name)
			}
			got := map[string]Device{}
			for _, d := range f.Devices {
				got[d.Name] = d
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("devices %v, want %v", got, want)
			}
			sound(t, f)
			again(t, f)
		}
	})
}

// TestCredential: each device opens each door with something else, of one site.
func TestCredential(t *testing.T) {
	f := &File{}
	f.Enroll("alice/laptop")
	f.Enroll("bob/laptop")
	a, b := f.Find("alice/laptop"), f.Find("bob/laptop")
	got := f.Credential(a, "ssh")
	if want := (key.Credential{Site: f.Site, Device: a.ID, Door: key.DoorID("ssh"), Secret: a.Secret}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if f.Credential(b, "ssh") == got || f.Credential(a, "web") == got {
		t.Error("two have the same")
	}
}

// TestChange: one writer at a time, and only the owner can read the file.
func TestChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	if f, err := Read(path); err != nil || len(f.Devices) > 0 || f.Exposed {
		t.Fatalf("no file is read as %v, %v", f, err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err := Read(path); err != nil || !f.Exposed {
		t.Fatalf("a file that others can read is read as %v, %v", f, err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if changed, err := Change(path, func(f *File) error { f.Enroll(fmt.Sprintf("u%d/laptop", i)); return nil }); err != nil || !changed {
				t.Errorf("changed %v, %v", changed, err)
			}
		})
	}
	all.Wait()
	f, err := Read(path)
	if err != nil || len(f.Devices) != 20 || f.Exposed || f.Path != path {
		t.Fatalf("read %d devices from %s, which others can read: %v; %v", len(f.Devices), f.Path, f.Exposed, err)
	}
	before, _ := os.ReadFile(path)
	refused := errors.New("refused")
	if _, err := Change(path, func(f *File) error { f.Drop("u1/laptop"); return refused }); err != refused {
		t.Errorf("the error is %v", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("a refused change has changed the file")
	}
	if changed, err := Change(path, func(*File) error { return nil }); changed || err != nil {
		t.Errorf("nothing to do, and changed %v, %v", changed, err)
	}
}

// TestFileError: what cannot be read says why, and names the file once.
func TestFileError(t *testing.T) {
	folder := t.TempDir()
	_, err := Read(folder)
	var file *FileError
	var place *rewrite.NotRegularError
	if !errors.As(err, &file) || !errors.As(err, &place) || strings.Count(err.Error(), folder) != 1 {
		t.Errorf("a folder: %v", err)
	}
	path := filepath.Join(folder, "keys.yaml")
	if err := os.WriteFile(path, []byte(strings.Repeat("#", MaxSize+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var invalid *document.InvalidError
	if _, err := Read(path); !errors.As(err, &invalid) || !strings.Contains(err.Error(), "larger than 8 MiB") {
		t.Errorf("a large file: %v", err)
	}
}

// TestThirtyThousandDevices: three each of ten thousand users fit.
func TestThirtyThousandDevices(t *testing.T) {
	f := &File{Site: key.NewSite()}
	for i := range 30_000 {
		f.Devices = append(f.Devices, Device{Name: fmt.Sprintf("user%05d/laptop%d", i/3, i%3), ID: key.NewDevice(), Secret: key.NewSecret()})
	}
	again(t, f)
}

// TestDiscreet: wherever a secret stands, no message quotes as much as eight characters
// of it.
func TestDiscreet(t *testing.T) {
	f := &File{}
	secret := encoding.EncodeToString(f.Enroll("alice/laptop").Secret[:])
	text := string(f.Format())
	for _, put := range []string{
		"%s: 1\n", "&%s x: 1\n", "!%s x: 1\n", "x: *%s\n", "  %s: {id: 1}\n", "  bob/%s: {id: 1}\n", "  %s/x:\n", "  bob/x: {secret:%s}\n",
		"  bob/x: {%s: 1, %[1]s: 2}\n", "  bob/x: {id: %s}\n", "  bob/x: {[%s]: 1}\n", "  \"%s\": [1]\n", "%s\n", "\t%s\n", "  bob/x: [%s]:1\n",
	} {
		_, err := Parse("keys.yaml", fmt.Appendf([]byte(text), put, secret))
		var invalid *document.InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("%q: %v", put, err)
			continue
		}
		for _, d := range invalid.Diagnostics {
			for i := range len(secret) - 7 {
				if said := d.Message + " " + d.Hint; strings.Contains(said, secret[i:i+8]) && strings.ContainsAny(secret[i:i+8], "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
					t.Errorf("%q: %s", put, said)
					break
				}
			}
		}
	}
}
