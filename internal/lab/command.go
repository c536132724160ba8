//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Cmd is an exec.Cmd that starts on a host. Use the methods of Cmd itself to
// start it and to wait for it; the fields are those of exec.Cmd.
type Cmd struct {
	*exec.Cmd

	host   *Host
	once   sync.Once
	waited error
}

// Command returns a command that will run on the host: nft, nmap, sshd. It is
// looked for in the usual places for administrators' programs as well, which
// are not in an ordinary user's PATH.
//
// The command is the first process of a PID namespace of its own: when it
// ends, or is killed by the end of its context, of the lab or of this process,
// the kernel kills everything that it has started, too. (A first process
// ignores signals that it does not handle. Killing it always works.)
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	if errors.Is(cmd.Err, exec.ErrNotFound) && !strings.Contains(name, "/") {
		for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				cmd.Path, cmd.Err = path, nil
				break
			}
		}
	}
	return &Cmd{Cmd: cmd, host: h}
}

// Start starts the command, as exec.Cmd.Start does.
func (c *Cmd) Start() error {
	l := c.host.lab
	if err := l.usable(); err != nil {
		return err
	}
	if c.SysProcAttr == nil {
		c.SysProcAttr = new(syscall.SysProcAttr)
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	c.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID

	// From one thread that lives as long as the lab. The kernel ties a
	// parent-death signal to the thread that forked, not to the process: a
	// command started by a thread that the runtime happens to end would be
	// killed in the middle of its work.
	l.mu.Lock()
	if l.spawner == nil {
		l.spawner = newThread()
	}
	spawner := l.spawner
	l.mu.Unlock()
	err := spawner.call(func() error { return inNetNS(c.host.ns, c.Cmd.Start) })
	if err != nil {
		return err
	}

	l.mu.Lock()
	closed := l.closed
	l.commands = append(l.commands, c)
	l.mu.Unlock()
	if closed { // meanwhile
		c.end()
		return ErrClosed
	}
	return nil
}

// Wait waits for the command to end, as exec.Cmd.Wait does. It may be called
// more than once.
func (c *Cmd) Wait() error {
	if c.Process == nil {
		return c.Cmd.Wait() // which says that it was not started
	}
	c.once.Do(func() { c.waited = c.Cmd.Wait() })
	return c.waited
}

// Run starts the command and waits for it to end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output. If it fails, its
// standard error is in the *exec.ExitError.
func (c *Cmd) Output() ([]byte, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout = &stdout
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		exit.Stderr = stderr.Bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and returns its standard output and standard
// error, as they came.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var both bytes.Buffer
	c.Stdout, c.Stderr = &both, &both
	err := c.Run()
	return both.Bytes(), err
}

// end kills the command, if it runs, and waits until it has gone.
func (c *Cmd) end() {
	c.Process.Kill()
	c.Wait()
}
