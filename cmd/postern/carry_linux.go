package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// widen makes a pipe that is read from as wide as a connection's own buffers. In
// one of the usual 64 KB, the writer and we would keep waiting for each other. It has no
// effect on what is no pipe, and where the user's pipes hold as much as they may.
func widen(r io.Reader) {
	f, ok := r.(*os.File)
	if !ok {
		return
	}
	// Not by Fd, which would take the file away from Go's poller.
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
	}
}
