package sshconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gofrs/flock"

	"postern/internal/rewrite"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// TestInstall creates what is missing, for its owner only, and changes nothing
// the second time.
func TestInstall(t *testing.T) {
	folder := filepath.Join(t.TempDir(), ".ssh")
	done, err := Install(folder, home())
	if err != nil || !done.Changed || !done.Included || done.OtherBlock != 0 || fmt.Sprint(done.Blocks) != "[home]" {
		t.Fatalf("%+v, %v", done, err)
	}
	if m := mode(t, folder); m != 0o700 {
		t.Errorf("the folder is %v", m)
	}
	file, config := filepath.Join(folder, "postern.conf"), filepath.Join(folder, "config")
	for path, want := range map[string]string{file: preface + "\n" + home().Block(), config: "Include postern.conf\n"} {
		if m, got := mode(t, path), read(t, path); m != 0o600 || got != want {
			t.Errorf("%s is %v:\n%s", path, m, got)
		}
	}
	before, _ := os.Stat(file)
	done, err = Install(folder, home())
	if after, _ := os.Stat(file); err != nil || done.Changed || done.Included || !os.SameFile(before, after) {
		t.Errorf("the second time: %+v, %v", done, err)
	}
	if all, err := os.ReadDir(folder); err != nil || len(all) != 2 {
		t.Errorf("there is %v, %v", all, err)
	}
}

// TestInstallKeeps: the user's own text, mode and symbolic link stay.
func TestInstallKeeps(t *testing.T) {
	folder, elsewhere := t.TempDir(), t.TempDir()
	const own = "# my own\r\n\tHost home\n  Port 9\n\nHost *\n\tUser\tbob   \n# no end of line"
	real := filepath.Join(elsewhere, "ssh_config")
	write(t, real, own, 0o644)
	config := filepath.Join(folder, "config")
	if err := os.Symlink(real, config); err != nil {
		t.Fatal(err)
	}
	done, err := Install(folder, home())
	if err != nil || !done.Included || done.OtherBlock != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := read(t, config); got != "Include postern.conf\r\n"+own {
		t.Errorf("%q", got)
	}
	if info, err := os.Lstat(config); err != nil || info.Mode()&fs.ModeSymlink == 0 || mode(t, real) != 0o644 {
		t.Errorf("%v, %v, %v", info.Mode(), mode(t, real), err)
	}
}

// TestInstallFails: nothing changes after an error.
func TestInstallFails(t *testing.T) {
	folder := t.TempDir()
	config := filepath.Join(folder, "config")
	if err := os.Symlink("nowhere", config); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(folder, home()); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("a link to nowhere: %v", err)
	}
	os.Remove(config)
	if err := os.Mkdir(config, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(folder, home()); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if all, _ := os.ReadDir(folder); len(all) != 2 { // the directory, and our own file
		t.Errorf("there is %v", all)
	}
	synctest.Test(t, func(t *testing.T) {
		other := flock.New(filepath.Join(folder, "postern.conf.postern-lock"))
		if err := other.Lock(); err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		_, err := Install(folder, home())
		if _, ok := errors.AsType[*rewrite.BusyError](err); !ok {
			t.Errorf("another one writes: %v", err)
		}
	})
}

// TestInstallAtOnce: no block is lost if several are written at the same time.
func TestInstallAtOnce(t *testing.T) {
	folder := t.TempDir()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			h := home()
			h.Name = fmt.Sprintf("host%d", i)
			if _, err := Install(folder, h); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := blocks(read(t, filepath.Join(folder, "postern.conf"))); len(got) != 10 {
		t.Errorf("%v", got)
	}
	if got := read(t, filepath.Join(folder, "config")); got != "Include postern.conf\n" {
		t.Errorf("%q", got)
	}
}

func TestWithBlock(t *testing.T) {
	h := &Host{Name: "b", Address: "new.example", Port: 22, Command: "c"}
	const block = "Host b\n\tHostName new.example\n\tPort 22\n\tProxyCommand c\n\tProxyUseFdpass no\n"
	for _, tt := range []struct{ before, after string }{
		{"", "\n" + block},
		{"# x", "# x\n\n" + block},
		{"Host a\n\tPort 1\n", "Host a\n\tPort 1\n\n" + block},
		{"Host a\n\tPort 1\n\nhost=\"b\" # mine\n\tPort 9\n  \n\tUser x\n\n# about c\nHost c\n", "Host a\n\tPort 1\n\n" + block + "\n# about c\nHost c\n"},
		{"Host b\nMatch user x\n\tPort 9\n", block + "Match user x\n\tPort 9\n"},
		{"Host b\n\tPort 9", block},
		{"Host b a\n\tPort 9\nHost B\n", "Host b a\n\tPort 9\nHost B\n\n" + block},
	} {
		got := withBlock(tt.before, h)
		if got != tt.after {
			t.Errorf("%q becomes\n%q, want\n%q", tt.before, got, tt.after)
		}
		if again := withBlock(got, h); again != got {
			t.Errorf("%q becomes\n%q the second time", tt.before, again)
		}
	}
}

func TestIncluded(t *testing.T) {
	for _, tt := range []struct {
		text string
		is   bool
	}{
		{"", false},
		{"Host a\n\tInclude postern.conf\n", false}, // applies to that host only
		{"Match all\nInclude postern.conf\n", false},
		{"# Include postern.conf\n", false},
		{"Include other.conf\n", false},
		{"Port 9\n  include = other.conf \"postern.conf\"\nHost a\n", true},
		{"Include ~/.ssh/postern.conf # doors\r\n", true},
		{"Include /home/ann/.ssh/postern.conf\n", true},
	} {
		got := included(tt.text, "/home/ann/.ssh")
		if tt.is && got != tt.text {
			t.Errorf("%q becomes %q", tt.text, got)
		}
		if !tt.is && got != "Include postern.conf\n"+tt.text {
			t.Errorf("%q becomes %q", tt.text, got)
		}
	}
}

// TestByAddress: ssh knocks by the name and by the address, of two hosts at one address
// by that of the first.
func TestByAddress(t *testing.T) {
	folder := filepath.Join(t.TempDir(), ".ssh")
	install := func(h Host) *Installed {
		t.Helper()
		h.Command = "c"
		done, err := Install(folder, &h)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	heads := func() string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(folder, fileName))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "Host ") {
				all = append(all, strings.TrimSpace(line))
			}
		}
		return strings.Join(all, "; ")
	}
	for _, step := range []struct {
		host      Host
		want      string
		addressOf string
	}{
		{Host{Name: "vps", Address: "vps.example", Port: 22}, "Host vps", ""}, // as it was before there were addresses
		{Host{Name: "vps", Address: "vps.example", Port: 22, ByAddress: true}, "Host vps vps.example", ""},
		{Host{Name: "other", Address: "vps.example", Port: 2222, ByAddress: true}, "Host vps vps.example; Host other", "vps"},
		{Host{Name: "vps", Address: "2001:db8::1", Port: 22, ByAddress: true}, "Host vps 2001:db8::1; Host other", ""},
		{Host{Name: "other", Address: "vps.example", Port: 2222, ByAddress: true}, "Host vps 2001:db8::1; Host other vps.example", ""},
		{Host{Name: "own.example", Address: "own.example", Port: 22, ByAddress: true}, "Host vps 2001:db8::1; Host other vps.example; Host own.example", ""},
	} {
		done := install(step.host)
		if got := heads(); got != step.want || done.AddressOf != step.addressOf {
			t.Errorf("%s at %s: got %q, address of %q; want %q, %q", step.host.Name, step.host.Address, got, done.AddressOf, step.want, step.addressOf)
		}
	}
	if done := install(Host{Name: "vps", Address: "2001:db8::1", Port: 22, ByAddress: true}); done.Changed || !slices.Equal(done.Blocks, []string{"vps", "other", "own.example"}) {
		t.Errorf("the same again: %+v", done)
	}
}
