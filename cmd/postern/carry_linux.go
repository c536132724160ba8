package main

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// wide is how much a pipe is to hold: as much as a connection's own buffers. One of
// the usual 64 KB has a writer and a reader wait for each other all the time. It is what every
// user may have (fs.pipe-max-size).
const wide = 1 << 20

// widen makes a pipe wide. It has no effect on what is no pipe, and where the user's
// pipes hold as much as they may.
func widen(r any) {
	f, ok := r.(*os.File)
	if !ok {
		return
	}
	// Not by Fd, which would take the file away from Go's poller.
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, wide) })
	}
}

// bring copies from a connection until it has ended. Into a pipe, which is what ssh
// gives to its ProxyCommand, the kernel moves the packets' pages without a copy: that takes half
// of the processor time that reading and writing take.
//
// The other direction is left to reading and writing. Until Linux 6.8 or so a splice into a
// socket that is full waits with the pipe locked, and whoever writes to it with it.
func bring(to io.Writer, conn *net.TCPConn) (int64, error) {
	out, ok := to.(*os.File)
	if !ok {
		return carry(to, conn)
	}
	raw, err := out.SyscallConn()
	if err != nil {
		return 0, err
	}
	total := int64(0)
	pipe := false
	var broken error
	err = raw.Control(func(fd uintptr) {
		var info unix.Stat_t
		if pipe = unix.Fstat(int(fd), &info) == nil && info.Mode&unix.S_IFMT == unix.S_IFIFO; pipe {
			unix.FcntlInt(fd, unix.F_SETPIPE_SZ, wide)
			total, broken = splice(out, int(fd), conn)
		}
	})
	switch {
	case err != nil:
		return total, err
	case !pipe:
		return carry(to, conn)
	}
	return total, broken
}

// splice has the kernel move what comes from a connection into a pipe, until it has
// ended. While there is nothing, Go's poller waits; while the pipe is full, this thread.
//
// A splice goes no further than an urgent byte (RFC 9293, 3.8.5), behind which it says that
// there is nothing, or even that the connection has ended. So where it moves nothing, though there is
// something and room for it, one reading has the last word: it skips the byte.
func splice(out *os.File, pipe int, conn *net.TCPConn) (total int64, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var buffer []byte
	for {
		var moved int64
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, err := unix.Splice(int(fd), nil, pipe, nil, wide, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			moved, failed = int64(n), err // n is an int where that has 32 bits
			return failed != unix.EAGAIN || await(int(fd), unix.POLLIN, atOnce)
		})
		switch {
		case err != nil:
			return total, err
		case failed == unix.EINTR:
			continue
		case failed == unix.EAGAIN && !await(pipe, unix.POLLOUT, atOnce):
			await(pipe, unix.POLLOUT, forever)
			continue
		case failed != nil && failed != unix.EAGAIN:
			return total, os.NewSyscallError("splice", failed)
		case moved > 0:
			total += moved
			continue
		}
		if buffer == nil {
			buffer = make([]byte, 64<<10)
		}
		n, ended := conn.Read(buffer)
		if _, err := out.Write(buffer[:n]); err != nil {
			return total, err
		}
		total += int64(n)
		if ended == io.EOF {
			return total, nil
		}
		if ended != nil {
			return total, ended
		}
	}
}

// How long to await something, as poll(2) has it.
const (
	atOnce  = 0
	forever = -1
)

// await waits until a file is ready, or broken.
func await(fd int, events int16, timeout int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(fds, timeout)
		if err != syscall.EINTR {
			return n > 0
		}
	}
}
