package cli

import (
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/descriptor"
)

// exchange passes on what a connection and two streams say to each other, until
// the service says no more, or the context ends. The end of in is passed on, too.
func exchange(ctx context.Context, in io.Reader, out io.Writer, conn *net.TCPConn) error {
	from, isFile := in.(*os.File)
	to, _ := out.(*os.File)
	if !isFile || !isPipe(to) {
		return exchangeStreams(in, out, conn)
	}
	return descriptor.Use(from, func(inFD int) error {
		return descriptor.Use(to, func(outFD int) error {
			return descriptor.Use(conn, func(connFD int) error {
				p := &pump{in: end{fd: inFD}, out: end{fd: outFD}, conn: connFD, name: to.Name()}
				return p.run(ctx)
			})
		})
	})
}

// isPipe tells whether a file is a pipe, which is what ssh gives to its ProxyCommand.
func isPipe(f *os.File) bool {
	info, err := f.Stat() // of no file it is an error
	return err == nil && info.Mode().Type() == fs.ModeNamedPipe
}

// A pump passes on what comes from a file and a connection, on one thread: from the
// file to the connection, and from there into a pipe.
//
// It is for copies of gigabytes, where ssh needs all of the processor that there is. A
// goroutine for each direction would be shorter, but what is expensive is to wake up at every
// packet, and then ssh and the Go runtime's own threads do so, too (docs/design.md).
type pump struct {
	in, out end // they may block
	conn    int // a descriptor, which does not
	name    string

	read    [load]byte
	unsent  []byte // of what was read
	inEnded bool   // or nobody takes more of it
	outFull bool
	failed  error // to send
}

// An end is a file, and how much it holds if it is a pipe; 0 if that is not known yet.
type end struct{ fd, size int }

const (
	// wide is how much a pipe is to hold while much is passed on: as much as a connection's
	// own buffers. One of the usual 64 KB has a writer and a reader wait for each other all
	// the time. A user may have that (fs.pipe-max-size) for 64 pipes, and all others are
	// small then (fs.pipe-user-pages-soft): so it is not for sessions in which little is said.
	wide = 1 << 20
	// pipeBuf is how much a pipe that is not full takes as a whole and without waiting, if
	// nobody else writes to it (PIPE_BUF, pipe(7)).
	pipeBuf = 4096
	// much in one go is the sign of a copy, rather than of somebody at a keyboard. What
	// comes then is left to gather for a while: each time that something is passed on, others
	// must wake up, and all that they do is done less often. It is what network cards do, too.
	much   = 16 << 10
	gather = 250 * time.Microsecond
	// glance is how often the pump looks if it is to end, while nothing can wake it up.
	glance  = 200 // in milliseconds, as poll(2) has it
	forever = -1
)

func (p *pump) run(ctx context.Context) error {
	for ctx.Err() == nil {
		comes, goes, err := p.wait()
		if err != nil {
			return err
		}
		more := false
		if goes {
			more = p.send()
		}
		if comes {
			n, ended, err := p.receive()
			if ended || err != nil {
				return err
			}
			more = more || p.out.gathers(n)
		}
		if more {
			pause := unix.NsecToTimespec(int64(gather))
			unix.Nanosleep(&pause, nil)
		}
	}
	return nil
}

// gathers tells whether a copy is going on of which more should be left to gather in a
// pipe, when n bytes of it have been passed on at once.
func (e *end) gathers(n int) bool {
	if n < much {
		return false
	}
	if e.size == 0 {
		e.size = widen(e.fd)
	}
	return n < e.size/2
}

// wait waits until receive or send has something to do.
func (p *pump) wait() (comes, goes bool, err error) {
	const in, out, conn = 0, 1, 2
	fds := [3]unix.PollFd{{Fd: -1}, {Fd: -1}, {Fd: -1}}
	timeout := forever
	if !p.inEnded && len(p.unsent) == 0 {
		fds[in] = unix.PollFd{Fd: int32(p.in.fd), Events: unix.POLLIN}
	}
	if p.outFull {
		fds[out] = unix.PollFd{Fd: int32(p.out.fd), Events: unix.POLLOUT}
		// A connection that has ended would wake it up at once, again and again. So it is not
		// looked at, and does not tell either that the context has ended.
		timeout = glance
	} else {
		// That the pipe's reader has gone shows when there is something for it, as ever.
		fds[conn] = unix.PollFd{Fd: int32(p.conn), Events: unix.POLLIN}
	}
	if len(p.unsent) > 0 {
		fds[conn].Fd = int32(p.conn)
		fds[conn].Events |= unix.POLLOUT
	}
	if _, err := unix.Poll(fds[:], timeout); err != nil && err != unix.EINTR {
		return false, false, os.NewSyscallError("poll", err)
	}
	if fds[out].Revents != 0 {
		p.outFull = false
	}
	const broken = unix.POLLHUP | unix.POLLERR
	comes = !p.outFull && (fds[out].Revents != 0 || fds[conn].Revents&(unix.POLLIN|broken) != 0)
	goes = fds[in].Revents != 0 || len(p.unsent) > 0 && fds[conn].Revents&(unix.POLLOUT|broken) != 0
	return comes, goes, nil
}

// send passes on what comes from in, and tells whether more should be left to gather.
//
// It reads and writes: a splice takes longer, as it goes page by page.
func (p *pump) send() (more bool) {
	if len(p.unsent) == 0 {
		n, err := unix.Read(p.in.fd, p.read[:])
		if again(err) {
			return false
		}
		p.unsent, p.inEnded = p.read[:max(n, 0)], n <= 0
		more = n < len(p.read)/2 && p.in.gathers(n) // else much is there already
	}
	if len(p.unsent) > 0 {
		n, err := unix.Write(p.conn, p.unsent)
		if again(err) {
			return more
		}
		p.unsent = p.unsent[max(n, 0):]
		if err != nil {
			p.unsent, p.inEnded, p.failed = nil, true, err
		}
	}
	if p.inEnded && len(p.unsent) == 0 {
		unix.Shutdown(p.conn, unix.SHUT_WR)
	}
	return more
}

// receive passes on what comes from the connection. The kernel moves the packets'
// pages into the pipe without a copy.
//
// A splice goes no further than an urgent byte (RFC 9293, 3.8.5), behind which it says that
// there is nothing, or even that the connection has ended. So where it moves nothing, though there is
// something and room for it, one reading has the last word: it skips the byte.
func (p *pump) receive() (n int, ended bool, err error) {
	moved, err := unix.Splice(p.conn, nil, p.out.fd, nil, wide, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case moved > 0:
		return int(moved), false, nil // it is an int where that has 32 bits
	case err == unix.EINTR:
		return 0, false, nil
	case err == unix.EAGAIN && !p.room():
		p.outFull = true
		return 0, false, nil
	case err != nil && err != unix.EAGAIN:
		return 0, false, os.NewSyscallError("splice", err)
	}
	var buffer [pipeBuf]byte
	n, err = unix.Read(p.conn, buffer[:])
	switch {
	case again(err):
		return 0, false, nil
	case err != nil:
		return 0, false, os.NewSyscallError("read", err)
	case n == 0:
		return 0, true, p.reset()
	}
	for {
		_, err := unix.Write(p.out.fd, buffer[:n])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			err = &fs.PathError{Op: "write", Path: p.name, Err: err}
		}
		return n, false, err
	}
}

// reset gives the connection's own error, if sending met with it: it is told only once.
func (p *pump) reset() error {
	if p.failed == nil || p.failed == unix.EPIPE {
		return nil
	}
	return os.NewSyscallError("write", p.failed)
}

// room tells whether the pipe takes pipeBuf bytes, or is broken.
func (p *pump) room() bool {
	fds := []unix.PollFd{{Fd: int32(p.out.fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// again tells whether an error says no more than that there is nothing to be done now.
func again(err error) bool { return err == unix.EAGAIN || err == unix.EINTR }

// widen makes a pipe wide, if the user may have that, and tells how much it holds. It does
// nothing to what is no pipe.
func widen(fd int) int {
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return 0
	}
	if size < wide {
		if now, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, wide); err == nil {
			size = now
		}
	}
	return size
}
