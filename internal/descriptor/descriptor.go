// Package descriptor lends the number behind an open file or connection.
package descriptor

import "syscall"

// Use calls f with the descriptor of a file or connection. A Close meanwhile takes effect
// only afterwards, so that its number cannot become another file's; and the runtime keeps
// polling it, which (*os.File).Fd would end.
//
// It gives f's error, or why there is no descriptor: the file may be closed.
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
