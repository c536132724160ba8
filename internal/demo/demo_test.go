package demo

import (
	"context"
	"fmt"
	"os"
	"testing"

	"postern/internal/lab"
)

const role = "POSTERN_DEMO_TEST_ROLE"

func TestMain(m *testing.M) {
	lab.Main(func() int {
		if os.Getenv(role) == "" {
			return m.Run()
		}
		if _, err := Run(context.Background(), &Screen{Out: os.Stdout}, Policy()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	})
}
