package iptables

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCapacity(t *testing.T) {
	dir := t.TempDir()
	read := func(want capacity) {
		t.Helper()
		got, err := readCapacity(dir)
		if err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	read(capacity{senders: 100}) // not loaded yet
	write("parameters/ip_list_tot", "420\n")
	read(capacity{senders: 420, builtin: true})
	write("initstate", "live\n")
	read(capacity{senders: 420})
	write("parameters/ip_list_tot", "many\n")
	if got, err := readCapacity(dir); err == nil {
		t.Errorf("read %+v from no number", got)
	}
}
