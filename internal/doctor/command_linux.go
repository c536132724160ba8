//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// output runs a program on this host and returns what it prints. It is looked for where
// administrators' programs are as well.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	for _, folder := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if cmd.Err == nil {
			break
		}
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			cmd = exec.CommandContext(ctx, filepath.Join(folder, name), args...)
		}
	}
	out, err := cmd.Output()
	return string(out), err
}
