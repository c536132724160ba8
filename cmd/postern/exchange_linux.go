package main

import (
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// exchange passes on what a connection and two streams say to each other, until
// the connection has ended, or the context. The end of in is passed on, too.
func exchange(ctx context.Context, in io.Reader, out io.Writer, conn *net.TCPConn) error {
	from, to := pipe(in), pipe(out)
	if from == nil || to == nil {
		return exchangeStreams(in, out, conn)
	}
	return withDescriptor(from, func(in int) error {
		return withDescriptor(to, func(out int) error {
			return withDescriptor(conn, func(conn int) error {
				p := &pump{in: in, out: out, conn: conn, name: to.Name()}
				return p.run(ctx)
			})
		})
	})
}

// pipe gives the file if it is a pipe, which is what ssh gives to its ProxyCommand; or nil.
func pipe(stream any) *os.File {
	f, ok := stream.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		return nil
	}
	return f
}

// withDescriptor calls f with a file's descriptor, which stays open meanwhile. (Fd would
// make it a blocking one.)
func withDescriptor(file interface {
	SyscallConn() (raw syscall.RawConn, err error)
}, f func(int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// A pump passes on what comes through two pipes and a connection, on one thread.
//
// It is for copies of gigabytes, where ssh needs all of the processor that there is. A
// goroutine for each direction would be shorter, but what is expensive is to wake up at every
// packet, and then ssh and the Go runtime's own threads do so, too (docs/design.md).
type pump struct {
	in, out, conn   int // descriptors; those of pipes may block
	inSize, outSize int // how much the pipes hold
	name            string

	read   [load]byte
	unsent []byte // of what was read
	ended  bool   // in has, or nobody takes more of it
	full   bool   // out is
	failed error  // to send
}

const (
	// wide is how much a pipe is to hold: as much as a connection's own buffers. One of
	// the usual 64 KB has a writer and a reader wait for each other all the time. It is what
	// every user may have (fs.pipe-max-size), for some dozens of pipes at once.
	wide = 1 << 20
	// page is how much a pipe that is not full takes without waiting.
	page = 4096
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
	p.inSize, p.outSize = widen(p.in), widen(p.out)
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
			more = more || gathers(n, p.outSize)
		}
		if more {
			pause := unix.NsecToTimespec(int64(gather))
			unix.Nanosleep(&pause, nil)
		}
	}
	return nil
}

// gathers tells whether a copy is going on of which more should be left to gather in a pipe
// of that size.
func gathers(n, size int) bool { return much <= n && n < size/2 }

// wait waits until receive or send has something to do.
func (p *pump) wait() (comes, goes bool, err error) {
	const in, out, conn = 0, 1, 2
	fds := [3]unix.PollFd{{Fd: -1}, {Fd: -1}, {Fd: -1}}
	timeout := forever
	if !p.ended && len(p.unsent) == 0 {
		fds[in] = unix.PollFd{Fd: int32(p.in), Events: unix.POLLIN}
	}
	if p.full {
		fds[out] = unix.PollFd{Fd: int32(p.out), Events: unix.POLLOUT}
		timeout = glance // the connection may have ended already, and would wake it up all the time
	} else {
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
		p.full = false
	}
	const broken = unix.POLLHUP | unix.POLLERR
	comes = !p.full && (fds[out].Revents != 0 || fds[conn].Revents&(unix.POLLIN|broken) != 0)
	goes = fds[in].Revents != 0 || len(p.unsent) > 0 && fds[conn].Revents&(unix.POLLOUT|broken) != 0
	return comes, goes, nil
}

// send passes on what comes from in, and tells whether more should be left to gather.
//
// It reads and writes: a splice takes longer, as it goes page by page, and from Linux 6.5 to 6.7
// it waits, with the pipe locked, where the connection takes no more.
func (p *pump) send() (more bool) {
	if len(p.unsent) == 0 {
		n, err := unix.Read(p.in, p.read[:])
		if again(err) {
			return false
		}
		p.unsent, p.ended = p.read[:max(n, 0)], n <= 0
		more = gathers(n, p.inSize)
	}
	if len(p.unsent) > 0 {
		n, err := unix.Write(p.conn, p.unsent)
		if again(err) {
			return more
		}
		p.unsent = p.unsent[max(n, 0):]
		if err != nil {
			p.unsent, p.ended, p.failed = nil, true, err
		}
	}
	if p.ended && len(p.unsent) == 0 {
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
	moved, err := unix.Splice(p.conn, nil, p.out, nil, wide, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case moved > 0:
		return int(moved), false, nil // it is an int where that has 32 bits
	case err == unix.EINTR:
		return 0, false, nil
	case err == unix.EAGAIN && !p.room():
		p.full = true
		return 0, false, nil
	case err != nil && err != unix.EAGAIN:
		return 0, false, os.NewSyscallError("splice", err)
	}
	var buffer [page]byte
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
		_, err := unix.Write(p.out, buffer[:n])
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

// room tells whether the pipe out takes a page, or is broken.
func (p *pump) room() bool {
	fds := []unix.PollFd{{Fd: int32(p.out), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// again tells whether an error says no more than that there is nothing to be done now.
func again(err error) bool { return err == unix.EAGAIN || err == unix.EINTR }

// widen makes a pipe wide, if the user may have that, and tells how much it holds.
func widen(pipe int) int {
	unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, wide)
	size, err := unix.FcntlInt(uintptr(pipe), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return 0
	}
	return size
}
