// Package pause lets a program that changes the rules pause the watchdog, which may
// hold them and which would load again what is being replaced.
//
// The watchdog listens on a socket in the runtime directory of its network
// namespace. It lets go of the rules for each connection, and then answers with a
// line; the pause lasts until the connection is closed, as it is when the program
// dies.
package pause

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	socketName = "watchdog.sock"
	lockName   = "watchdog.lock"

	// patience is for the watchdog's answer. It gives one at once, unless it is
	// stopped.
	patience = 5 * time.Second
)

const answer = "paused\n"

// Ask pauses the watchdog of a runtime directory until resume is called. Without
// a watchdog, or with one that does not answer, there is nothing to wait for: the
// kernel refuses a change of what is held.
func Ask(dir string) (resume func()) {
	conn, err := net.DialTimeout("unix", filepath.Join(dir, socketName), patience)
	if err != nil {
		return func() {}
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	bufio.NewReader(conn).ReadString('\n')
	return func() { conn.Close() }
}

// A RunningError says that another watchdog listens already.
type RunningError struct{ Dir string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("another watchdog runs already, with its socket in %s", e.Dir)
}

// A Listener takes the requests to pause.
type Listener struct {
	lock     *os.File
	socket   *net.UnixListener
	requests chan *Request
}

// A Request is one program that wants to change rules.
type Request struct{ conn *net.UnixConn }

// Listen waits for requests, in a runtime directory that exists. If another process
// does so already the error is a *RunningError.
func Listen(dir string) (*Listener, error) {
	// What the socket of a dead process leaves behind cannot be told from a
	// living one's; a lock can.
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &RunningError{dir}
		}
		return nil, err
	}
	name := filepath.Join(dir, socketName)
	os.Remove(name)
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err == nil {
		err = os.Chmod(name, 0o600)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	l := &Listener{lock, socket, make(chan *Request)}
	go l.accept()
	return l, nil
}

// Requests returns where requests come from. Each must be granted or closed.
func (l *Listener) Requests() <-chan *Request { return l.requests }

// Close ends the listening, and removes the socket.
func (l *Listener) Close() { l.socket.Close(); l.lock.Close() }

func (l *Listener) accept() {
	for {
		conn, err := l.socket.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no file descriptor is left, say
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !mayAsk(conn) {
			conn.Close()
			continue
		}
		l.requests <- &Request{conn}
	}
}

// mayAsk reports whether a process is of the user that this one is of, which is root
// of its user namespace. The directory lets nobody else in either.
func mayAsk(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return err == nil && credErr == nil && int(cred.Uid) == os.Geteuid()
}

// Grant says that the rules may be changed, and calls over when the pause ends: after
// the given time at the latest.
func (r *Request) Grant(most time.Duration, over func()) {
	r.conn.SetDeadline(time.Now().Add(most))
	r.conn.Write([]byte(answer))
	go func() {
		r.conn.Read(make([]byte, 1)) // nothing comes but the end
		r.conn.Close()
		over()
	}()
}
