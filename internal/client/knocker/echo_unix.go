//go:build unix

package knocker

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sendEcho sends one echo request: by a ping socket, which needs no privilege on
// macOS, and on Linux a setting that most systems have (net.ipv4.ping_group_range);
// otherwise by a raw socket, for root. FreeBSD has no ping sockets.
func sendEcho(to netip.Addr) error {
	protocol, kind := unix.IPPROTO_ICMPV6, byte(128)
	if to.Is4() {
		protocol, kind = unix.IPPROTO_ICMP, 8
	}
	fd, err := open(to, unix.SOCK_DGRAM, protocol)
	if forbidden(err) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EPROTOTYPE) {
		fd, err = open(to, unix.SOCK_RAW, protocol)
	}
	if forbidden(err) {
		return &PingError{err}
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Type, code, checksum, identifier, sequence number, and nothing to echo. The
	// kernel fills in the checksum of any ICMPv6, and on Linux the checksum and the
	// identifier of a ping socket's messages. The identifier must differ each time: for
	// half a minute the server takes an echo with the same one as part of the same
	// flow, and not as a knock.
	message := []byte{kind, 0, 0, 0, 0, 0, 0, 1}
	binary.BigEndian.PutUint16(message[4:], uint16(rand.Uint32()))
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

func forbidden(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }
