package knocker

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// sendSYNData sends a SYN with data in it, once. TCP_FASTOPEN_NO_COOKIE is in Linux
// 4.15 and later, and net.ipv4.tcp_fastopen allows it to clients by default. It needs
// no privilege.
func sendSYNData(to netip.Addr, port uint16, data []byte) error {
	fd, err := open(to, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) // which ends the attempt: nothing is sent again
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 1); err != nil {
		return err
	}
	address, err := sockaddr(to, port)
	if err != nil {
		return err
	}
	switch err := unix.Sendto(fd, data, unix.MSG_FASTOPEN, address); err {
	case nil, unix.EINPROGRESS, unix.ECONNREFUSED:
		return nil // refused is an answer, and so it arrived: at this very host
	default:
		return err
	}
}
