//go:build unix

package knocker

import (
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// refused reports whether a connection was refused.
func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// sendSYN begins to connect, and closes the socket at once. By then the SYN is sent,
// or waits for the neighbour's hardware address without the socket; a closed socket
// retransmits nothing.
func sendSYN(to netip.Addr, port uint16) error {
	fd, err := open(to, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	address, err := sockaddr(to, port)
	if err != nil {
		return err
	}
	switch err := unix.Connect(fd, address); err {
	case nil, unix.EINPROGRESS, unix.ECONNREFUSED:
		return nil // refused is an answer, and so it arrived: at this very host
	default:
		return err
	}
}

// sendDatagram sends an empty datagram.
func sendDatagram(to netip.Addr, port uint16) error {
	fd, err := open(to, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	address, err := sockaddr(to, port)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, nil, 0, address)
}

// open opens a socket that does not block and that no other program inherits. (Not
// every system can do that in one call.)
func open(to netip.Addr, kind, protocol int) (int, error) {
	family := unix.AF_INET6
	if to.Is4() {
		family = unix.AF_INET
	}
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(family, kind, protocol)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(to netip.Addr, port uint16) (unix.Sockaddr, error) {
	if to.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: to.As4()}, nil
	}
	id, err := zone(to)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: to.As16(), ZoneId: id}, nil
}
