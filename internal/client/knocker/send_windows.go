package knocker

import (
	"errors"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// refused reports whether a connection was refused. (Package syscall's ECONNREFUSED
// is a number that Go invents on Windows.)
func refused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }

// sendSYN begins to connect, and closes the socket at once. Windows repeats its SYN
// three times even after a refusal, if the socket is still open.
//
// The socket is one that does not block, and not an overlapped one: the kernel would
// write to that one's memory after it is closed.
func sendSYN(to netip.Addr, port uint16) error {
	s, err := open(to, windows.SOCK_STREAM, windows.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer windows.Closesocket(s)
	address, err := sockaddr(to, port)
	if err != nil {
		return err
	}
	const doNotBlock = 0x8004667e // FIONBIO
	on, n := uint32(1), uint32(0)
	err = windows.WSAIoctl(s, doNotBlock, (*byte)(unsafe.Pointer(&on)), uint32(unsafe.Sizeof(on)), nil, 0, &n, nil, 0)
	if err != nil {
		return err
	}
	switch err := windows.Connect(s, address); err {
	case nil, windows.WSAEWOULDBLOCK, windows.WSAECONNREFUSED:
		return nil // refused is an answer, and so it arrived: at this very host
	default:
		return err
	}
}

// sendDatagram sends an empty datagram.
func sendDatagram(to netip.Addr, port uint16) error {
	s, err := open(to, windows.SOCK_DGRAM, windows.IPPROTO_UDP)
	if err != nil {
		return err
	}
	defer windows.Closesocket(s)
	address, err := sockaddr(to, port)
	if err != nil {
		return err
	}
	n := uint32(0)
	return windows.WSASendto(s, &windows.WSABuf{}, 1, &n, 0, address, nil, nil)
}

// startup initialises Winsock, once.
var startup = sync.OnceValue(func() error {
	return windows.WSAStartup(0x202, &windows.WSAData{})
})

// open opens a socket that no other program inherits.
func open(to netip.Addr, kind, protocol int32) (windows.Handle, error) {
	if err := startup(); err != nil {
		return windows.InvalidHandle, err
	}
	family := int32(windows.AF_INET6)
	if to.Is4() {
		family = windows.AF_INET
	}
	return windows.WSASocket(family, kind, protocol, nil, 0, windows.WSA_FLAG_NO_HANDLE_INHERIT)
}

func sockaddr(to netip.Addr, port uint16) (windows.Sockaddr, error) {
	if to.Is4() {
		return &windows.SockaddrInet4{Port: int(port), Addr: to.As4()}, nil
	}
	id, err := zone(to)
	if err != nil {
		return nil, err
	}
	return &windows.SockaddrInet6{Port: int(port), Addr: to.As16(), ZoneId: id}, nil
}
