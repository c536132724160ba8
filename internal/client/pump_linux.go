package client

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

// exchange passes bytes between a connection and two streams until the service ends
// it, or the context does. The end of in is passed on.
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

// isPipe reports whether a file is a pipe, as ssh gives one to its ProxyCommand.
func isPipe(f *os.File) bool {
	info, err := f.Stat() // of no file it is an error
	return err == nil && info.Mode().Type() == fs.ModeNamedPipe
}

// A pump passes bytes on one thread: from a file to a connection, and from there into
// a pipe.
//
// It is for copies of gigabytes, where ssh needs all of the processor. A goroutine for
// each direction would be shorter, but it wakes up at every packet, and so do ssh and
// the Go runtime's own threads then (docs/design.md).
type pump struct {
	in, out end // may block
	conn    int // a descriptor that does not block
	name    string

	read    [bufferSize]byte
	unsent  []byte // the rest of what was read
	inEnded bool   // or the connection takes no more
	outFull bool
	failed  error // the error of sending
}

// An end is a file, and how much it holds if it is a pipe; 0 if that is not known yet.
type end struct{ fd, size int }

const (
	// widePipe is the size of a pipe while much is passed on: that of a connection's
	// own buffers. With the usual 64 KB the writer and the reader wait for each other
	// all the time. A user may have that much (fs.pipe-max-size) for 64 pipes, and all
	// others are small then (fs.pipe-user-pages-soft): so it is not for sessions at a
	// keyboard.
	widePipe = 1 << 20
	// pipeBuf is how much a pipe that is not full takes in one piece and without
	// waiting, if nobody else writes to it (PIPE_BUF, pipe(7)).
	pipeBuf = 4096
	// bulk bytes at once are the sign of a copy, rather than of a person at a keyboard.
	// The pump waits a while then, for more to gather: each time that it passes bytes on,
	// other programs must wake up. Network cards do the same.
	bulk   = 16 << 10
	gather = 250 * time.Microsecond
	// recheck is how often the pump looks whether to end, while nothing can wake it up.
	recheck = 200 // in milliseconds, as poll(2) has it
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

// gathers reports whether n bytes at once are part of a copy, of which more should
// gather in the pipe before they are passed on.
func (e *end) gathers(n int) bool {
	if n < bulk {
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
		// A connection that has ended would wake it up at once, again and again. So it is
		// not polled, and cannot report the end of the context either.
		timeout = recheck
	} else {
		// That the pipe's reader has gone shows at the next write to it.
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

// send passes on what comes from in, and reports whether to let more gather.
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
// A splice stops at an urgent byte (RFC 9293, 3.8.5) and then says that there is
// nothing, or even that the connection has ended. So where it moves nothing although
// the pipe has room, a read decides: it skips the byte.
func (p *pump) receive() (n int, ended bool, err error) {
	moved, err := unix.Splice(p.conn, nil, p.out.fd, nil, widePipe, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
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

// reset returns the connection's own error if sending met it: the kernel reports it
// only once.
func (p *pump) reset() error {
	if p.failed == nil || p.failed == unix.EPIPE {
		return nil
	}
	return os.NewSyscallError("write", p.failed)
}

// room reports whether the pipe takes pipeBuf bytes, or is broken.
func (p *pump) room() bool {
	fds := []unix.PollFd{{Fd: int32(p.out.fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// again reports whether an error only means that nothing can be done now.
func again(err error) bool { return err == unix.EAGAIN || err == unix.EINTR }

// widen makes a pipe wide, if the user may have that, and returns its size; 0 for a
// file that is no pipe.
func widen(fd int) int {
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return 0
	}
	if size < widePipe {
		if now, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, widePipe); err == nil {
			size = now
		}
	}
	return size
}
