//go:build unix

package knocker

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sendEcho sends one echo request with a payload: by a ping socket, which needs no privilege on
// macOS, and on Linux a setting that most systems have (net.ipv4.ping_group_range);
// otherwise by a raw socket, for root. FreeBSD has no ping sockets.
func sendEcho(to netip.Addr, payload []byte) error {
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
	// Type, code, checksum, identifier, sequence number, and what to echo. The
	// kernel fills in the checksum of any ICMPv6, and on Linux the checksum and the
	// identifier of a ping socket's messages. The identifier must differ each time: for
	// half a minute the server takes an echo with the same one as part of the same
	// flow, and not as a knock.
	message := append([]byte{kind, 0, 0, 0, 0, 0, 0, 1}, payload...)
	binary.BigEndian.PutUint16(message[4:], uint16(rand.Uint32()))
	if to.Is4() {
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	address, err := sockaddr(to, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, message, 0, address)
}

// checksum is that of the internet's protocols (RFC 1071).
func checksum(message []byte) uint16 {
	sum := uint32(0)
	for i, b := range message {
		sum += uint32(b) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func forbidden(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }
