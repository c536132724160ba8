package knocker

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sendEcho sends one echo request: by a ping socket, which needs no privilege
// but a setting that most systems have (net.ipv4.ping_group_range), or else by a
// raw one, for root.
func sendEcho(to netip.Addr) error {
	protocol, kind := unix.IPPROTO_ICMPV6, byte(128)
	if to.Is4() {
		protocol, kind = unix.IPPROTO_ICMP, 8
	}
	fd, err := open(to, unix.SOCK_DGRAM, protocol)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		fd, err = open(to, unix.SOCK_RAW, protocol)
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return &PingError{err}
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Type, code, checksum, identifier, sequence number, and nothing to echo. A
	// ping socket fills in identifier and checksum; so does the kernel for any
	// ICMPv6.
	message := []byte{kind, 0, 0, 0, 'p', 'n', 0, 1}
	if to.Is4() {
		sum := uint32(message[0])<<8 + uint32(message[4])<<8 + uint32(message[5]) + uint32(message[7])
		sum = ^(sum&0xffff + sum>>16)
		message[2], message[3] = byte(sum>>8), byte(sum)
	}
	address, err := sockaddr(to, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, message, 0, address)
}
