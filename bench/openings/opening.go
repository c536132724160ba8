//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limit is how long an opening may take, unless many share one budget.
var limit = 5 * time.Second // tests have more

// An outcome is the result of one opening.
type outcome struct {
	in     bool          // the connection was established in time, and the greeting arrived
	took   time.Duration // until the connection, from before the process was started
	atOnce bool          // with the first try
	why    string        // it failed
}

// open runs a client once. It must be called on the client's host, on a thread
// that outlives the process, which dies with the thread.
func (st *stand) open(ctx context.Context, c *client) (outcome, error) {
	var o outcome
	// Sent at once, as ssh would, so that a lost ACK does no more harm here
	// than there.
	stdin, toStdin, err := os.Pipe()
	if err != nil {
		return o, err
	}
	defer stdin.Close()
	defer toStdin.Close()
	if _, err := io.WriteString(toStdin, "SSH-2.0-bench\r\n"); err != nil {
		return o, err
	}
	stdout, toStdout, err := os.Pipe()
	if err != nil {
		return o, err
	}
	defer stdout.Close()
	stderr, toStderr, err := os.Pipe()
	if err != nil {
		toStdout.Close()
		return o, err
	}
	defer stderr.Close()

	cmd := exec.Command(st.kit.program(c.command[0]), c.command[1:]...)
	cmd.Env = st.kit.environment(st.cache)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, toStdout, toStderr
	// A process group, so that its children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	begun := time.Now()
	err = cmd.Start()
	toStdout.Close()
	toStderr.Close()
	if err != nil {
		return o, err
	}
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stop := context.AfterFunc(ctx, kill)
	ended := false
	defer func() {
		stop()
		if !ended {
			kill() // before Wait, after which the number may be another process's
			cmd.Wait()
		}
	}()

	stderr.SetReadDeadline(begun.Add(st.limit))
	said := bufio.NewScanner(stderr)
	last := "no output"
	for said.Scan() {
		last = said.Text()
		tries, ok := c.reportsOpen(said.Text())
		if !ok {
			continue
		}
		o.took, o.atOnce = time.Since(begun), tries == 1
		break
	}
	if ctx.Err() != nil {
		return o, ctx.Err()
	}
	if o.took == 0 && said.Err() == nil {
		stop()
		ended = true
		err := cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			return o, fmt.Errorf("%s was killed: %w", c.command[0], err)
		}
		return outcome{why: fmt.Sprintf("gave up: %v: %s", err, last)}, nil
	}
	if o.took == 0 || o.took > st.limit {
		return outcome{why: fmt.Sprintf("not within %v: %s", st.limit, last)}, nil
	}
	stdout.SetReadDeadline(time.Now().Add(st.limit))
	said = bufio.NewScanner(stdout)
	o.in = said.Scan() && said.Text() == strings.TrimSpace(greeting)
	if !o.in {
		return outcome{why: fmt.Sprintf("not greeted: %s", last)}, ctx.Err()
	}
	return o, nil
}

// authorities are the certificates that ncat parses at each start, needed or
// not. That takes 60 ms of processor time, as long as a knock takes to arrive,
// and much of what an opening by ncat costs. With many at once it would
// dominate the measurement, and the how-to is not about certificates.
const authorities = "/etc/ssl/certs/ca-certificates.crt"

// certificates determines whether a client finds the authorities' certificates.
type certificates int

const (
	hidden certificates = iota
	visible
)

// asClient calls f on a thread of the stand's client.
func (st *stand) asClient(certs certificates, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := hideCertificates(certs); err != nil {
				return fmt.Errorf("hiding %s from ncat: %w", authorities, err)
			}
			return st.client.Do(f)
		}()
	}()
	return <-done
}

// hideCertificates moves the thread to a mount namespace without the certificates.
func hideCertificates(certs certificates) error {
	if certs == visible {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	err := unix.Mount(os.DevNull, authorities, "", unix.MS_BIND, "")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
