package nftables

import (
	"testing"

	"postern/internal/lab/labtest"
)

// A scene is the shared one, with what only these tests ask of it.
type scene struct{ *labtest.Scene }

func newScene(t *testing.T) *scene { return &scene{labtest.NewScene(t, Backend{})} }
