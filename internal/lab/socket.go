//go:build linux

package lab

import (
	"context"
	"net"
	"net/netip"
)

// Listen is net.Listen on the host. The listener goes on working anywhere: a
// socket stays on the host that it was opened on. The caller must close it.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var config net.ListenConfig
	// Without this a listener is one of multipath TCP, which answers a SYN a
	// little differently.
	config.SetMultipathTCP(false)
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = config.Listen(ctx, network, address)
		return err
	})
	return ln, err
}

// ListenPacket is net.ListenPacket on the host, as Listen is net.Listen.
func (h *Host) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var config net.ListenConfig
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = config.ListenPacket(ctx, network, address)
		return err
	})
	return conn, err
}

// Dial is net.Dial on the host. The network is "tcp" or "udp". There are no
// names in a lab, so the address is a number. While it connects it occupies a
// thread. The caller must close the connection.
func (h *Host) Dial(ctx context.Context, network string, address netip.AddrPort) (net.Conn, error) {
	var dialer net.Dialer
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address.String())
		return err
	})
	return conn, err
}
