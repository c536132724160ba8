package host

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sockets are those of this network namespace, each by its inode. They are read when
// somebody asks.
type sockets struct {
	read        bool
	connections map[uint32]*tcpSocket
	listeners   map[uint32]bool
	listening   map[uint16]bool // the listeners' ports
	unconnected map[uint32]netip.AddrPort
}

type tcpSocket struct {
	local, remote netip.AddrPort
}

// load asks the kernel. What it does not say is not there.
func (s *sockets) load() {
	if s.read {
		return
	}
	s.read = true
	s.connections, s.unconnected = map[uint32]*tcpSocket{}, map[uint32]netip.AddrPort{}
	s.listeners, s.listening = map[uint32]bool{}, map[uint16]bool{}
	end := func(ip []byte, port uint16) netip.AddrPort {
		address, _ := netip.AddrFromSlice(ip)
		return netip.AddrPortFrom(address.Unmap(), port)
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, _ := netlink.SocketDiagTCP(family)
		for _, t := range tcp {
			local := end(t.ID.Source, t.ID.SourcePort)
			switch t.State {
			case netlink.TCP_LISTEN:
				s.listeners[t.INode], s.listening[local.Port()] = true, true
			case netlink.TCP_ESTABLISHED, netlink.TCP_CLOSE_WAIT:
				s.connections[t.INode] = &tcpSocket{local, end(t.ID.Destination, t.ID.DestinationPort)}
			}
		}
		udp, _ := netlink.SocketDiagUDP(family)
		for _, u := range udp {
			local := end(u.ID.Source, u.ID.SourcePort)
			if u.ID.DestinationPort == 0 && local.Port() != 0 && !local.Addr().IsLoopback() {
				s.unconnected[u.INode] = local
			}
		}
	}
}

// connection returns the TCP connection with an inode; nil if it is none.
func (s *sockets) connection(inode uint32) *tcpSocket {
	s.load()
	return s.connections[inode]
}

// listens reports whether a program listens on the port of an address.
func (s *sockets) listens(at netip.AddrPort) bool {
	s.load()
	return s.listening[at.Port()]
}

// listener reports whether a socket accepts connections.
func (s *sockets) listener(inode uint32) bool {
	s.load()
	return s.listeners[inode]
}

// datagrams returns the address of a UDP socket that anyone can send to.
func (s *sockets) datagrams(inode uint32) (local netip.AddrPort, ok bool) {
	s.load()
	local, ok = s.unconnected[inode]
	return local, ok
}

// tcp returns the inode of the connection between two ends; 0 if there is none.
func (s *sockets) tcp(local, remote netip.AddrPort) uint32 {
	s.load()
	for inode, c := range s.connections {
		if c.local == local && c.remote == remote {
			return inode
		}
	}
	return 0
}
