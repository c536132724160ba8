package conformance

import (
	"flag"
	"testing"

	"postern/internal/lab"
)

func TestMain(m *testing.M) {
	lab.Main(func() int {
		flag.Parse()
		flag.Set("test.parallel", "10") // the searches wait more than they work
		return m.Run()
	})
}
