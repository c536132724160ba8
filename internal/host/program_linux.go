package host

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// Programs returns the names of the programs that listen on ports of this network
// namespace, as far as the caller may look at them: "sshd", or "systemd" where a
// socket unit starts the program. The kernel keeps 15 bytes of a name.
func Programs() map[policy.Port]string {
	ports := map[uint32]policy.Port{} // by the socket's inode
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, _ := netlink.SocketDiagTCP(family)
		for _, s := range tcp {
			if s.State == netlink.TCP_LISTEN {
				ports[s.INode] = policy.Port{Protocol: policy.TCP, Number: s.ID.SourcePort}
			}
		}
		udp, _ := netlink.SocketDiagUDP(family)
		for _, s := range udp {
			if s.ID.DestinationPort == 0 {
				ports[s.INode] = policy.Port{Protocol: policy.UDP, Number: s.ID.SourcePort}
			}
		}
	}
	p, programs := processes{folder: "/proc"}, map[policy.Port]string{}
	for _, pid := range p.all() {
		for _, inode := range p.inodes(pid) {
			port, ok := ports[inode]
			if !ok || programs[port] != "" && programs[port] != socketUnits {
				continue
			}
			programs[port] = p.name(pid)
		}
	}
	return programs
}

// socketUnits is the name of what listens for others, which have the socket from it.
const socketUnits = "systemd"
