package conformance

import (
	"testing"

	"postern/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }
