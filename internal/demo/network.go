package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"postern/internal/automaton"
	"postern/internal/firewall/nftables"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/packet"
)

// A client is a person with a machine in a network of their own.
type client struct {
	name   string
	host   *lab.Host
	v4, v6 netip.Addr
	wire   *lab.Capture // packets to the machine
}

// A network is the scene of the story. The clients are in different networks;
// the gateway and its service have one address for both. The host behind the
// gateway has another.
type network struct {
	lab      *lab.Lab
	gateway  *lab.Host
	v4, v6   netip.Addr // the gateway's
	inside   netip.Addr
	ann, bob *client
}

// newNetwork builds the network and starts the services. The caller must close
// the lab, even after an error.
func newNetwork(ctx context.Context, l *lab.Lab) (*network, error) {
	n := &network{lab: l, gateway: l.Host("gateway")}
	n.ann, n.bob = &client{name: "Ann", host: l.Host("ann")}, &client{name: "Bob", host: l.Host("bob")}
	inside := l.Host("inside")

	toAnn, atAnn := l.Connect(n.gateway, n.ann.host, "192.0.2.0/24", "2001:db8:a::/64")
	toBob, atBob := l.Connect(n.gateway, n.bob.host, "198.51.100.0/24", "2001:db8:b::/64")
	toInside, atInside := l.Connect(n.gateway, inside, "10.0.0.0/24")
	n.bob.host.Route("0.0.0.0/0", toBob.Addr4())
	n.bob.host.Route("::/0", toBob.Addr6())
	inside.Route("0.0.0.0/0", toInside.Addr4())
	n.gateway.Sysctl("net.ipv4.ip_forward", "1")
	if err := l.Err(); err != nil {
		return nil, err
	}
	n.v4, n.v6, n.inside = toAnn.Addr4(), toAnn.Addr6(), atInside.Addr4()
	n.ann.v4, n.ann.v6 = atAnn.Addr4(), atAnn.Addr6()
	n.bob.v4, n.bob.v6 = atBob.Addr4(), atBob.Addr6()

	for c, link := range map[*client]*lab.Link{n.ann: atAnn, n.bob: atBob} {
		wire, err := link.Capture(func(p *packet.Packet) bool { return p.Dst == c.v4 || p.Dst == c.v6 })
		if err != nil {
			return nil, err
		}
		c.wire = wire
	}
	for _, s := range []struct {
		host     *lab.Host
		port     uint16
		greeting func(netip.Addr) string
	}{
		{n.gateway, sshPort, func(netip.Addr) string { return sshBanner }},
		{n.gateway, keyedPort, func(netip.Addr) string { return sshBanner }},
		{inside, insidePort, insideBanner},
	} {
		ln, err := s.host.Listen(ctx, "tcp", fmt.Sprintf(":%d", s.port))
		if err != nil {
			return nil, err
		}
		serve(ctx, ln, s.greeting)
	}
	return n, nil
}

// sshBanner is the greeting of the service on the gateway, in the form of an
// SSH server's.
const sshBanner = "SSH-2.0-behind_the_postern"

// insideBanner returns the greeting of the service behind the gateway.
func insideBanner(caller netip.Addr) string {
	return "the host inside greets " + caller.String()
}

// load loads the machine into the gateway's kernel.
func (n *network) load(m *automaton.Machine) error {
	if err := n.lab.Settle(); err != nil {
		return err
	}
	return n.gateway.Do(func() error { return nftables.Backend{}.Apply(m) })
}

// address returns the gateway's address of the same family as a client's.
func (n *network) address(from netip.Addr) netip.Addr {
	if from.Is6() {
		return n.v6
	}
	return n.v4
}

// sendToken has a client send a token to the gateway.
func (n *network) sendToken(c *client, from netip.Addr, token key.Token) error {
	err := c.host.Do(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.address(from), tokenPort)))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(token[:])
		return err
	})
	return errors.Join(err, n.lab.Settle())
}

// dial connects a client, from one of its addresses, to a port of the gateway
// and waits for the greeting. The error is the context's.
func (n *network) dial(ctx context.Context, c *client, from netip.Addr, port uint16) (*call, error) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := c.host.Dial(short, "tcp", netip.AddrPortFrom(n.address(from), port))
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without the addresses
		}
		return &call{problem: "no connection (" + err.Error() + ")"}, ctx.Err()
	}
	k := newCall(conn)
	if k.banner, err = k.hear(); err != nil {
		k.problem = "a connection and no greeting (" + err.Error() + ")"
	}
	return k, ctx.Err()
}
