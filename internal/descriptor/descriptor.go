// Package descriptor gives access to the file descriptor of an open file or
// connection.
package descriptor

import "syscall"

// Use calls f with the descriptor of a file or connection. A concurrent Close
// takes effect only afterwards, so the number cannot be reused for another
// file; and the runtime keeps polling the descriptor, which (*os.File).Fd would
// end.
//
// Use returns f's error, or an error if the file is closed.
func Use(file syscall.Conn, f func(fd int) error) error {
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
