package nftables

import (
	"testing"

	"postern/internal/firewall/bpf"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// A scene is the shared one, with what only these tests ask of it.
type scene struct{ *labtest.Scene }

func newScene(t *testing.T) *scene { return &scene{labtest.NewScene(t, Backend{})} }

// down removes the rules of a host, and the program with them.
func down(t *testing.T, h *lab.Host) {
	t.Helper()
	if err := h.Do(Backend{}.Remove); err != nil {
		t.Fatal(err)
	}
	if err := h.Do(func() error {
		running, err := bpf.Find()
		if err != nil {
			return err
		}
		defer running.Close()
		if running.Loaded() {
			t.Error("the program is there without the rules")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
