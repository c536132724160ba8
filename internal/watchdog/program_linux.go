package watchdog

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// A program is the file that this process runs.
type program struct {
	path    string
	running os.FileInfo // nil: it is not known
	tried   os.FileInfo // took its place and could not be run
}

func thisProgram() program {
	path, err := os.Executable()
	if err != nil {
		return program{}
	}
	running, err := os.Stat("/proc/self/exe") // also if the path is another file's by now
	if err != nil {
		return program{}
	}
	return program{path: path, running: running}
}

// replaced reports whether another file has taken the program's place, as in an
// upgrade, that has not been tried.
func (p *program) replaced() bool {
	if p.running == nil {
		return false
	}
	now, err := os.Stat(p.path)
	if err != nil || os.SameFile(now, p.running) {
		return false
	}
	return p.tried == nil || !os.SameFile(now, p.tried) || !now.ModTime().Equal(p.tried.ModTime())
}

// start runs, as this process, the file that has taken the program's place. It returns
// if that is impossible. A file may not be complete yet, so it is asked for its version
// first.
func (p *program) start(ctx context.Context) (err error) {
	if p.tried, err = os.Stat(p.path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, p.path, "--version").Run(); err != nil {
		return fmt.Errorf("%s --version: %w", p.path, err)
	}
	return &os.PathError{Op: "exec", Path: p.path, Err: unix.Exec(p.path, os.Args, os.Environ())}
}
