package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/policy"
)

// A Session is a connection to a hidden service, or a flow of datagrams.
type Session struct {
	Protocol policy.Protocol
	Remote   netip.AddrPort
	Local    netip.AddrPort // where the client sends to, before any DNAT
}

// Sessions returns what is open of what a revocation is to cut, and how much of it it
// spares. Connections of this host with itself, as of "ssh localhost", have come through no
// door.
func (r *Revocation) Sessions(m *automaton.Machine) (open map[Session]bool, spared int, err error) {
	own, err := ownAddresses()
	if err != nil {
		return nil, 0, err
	}
	flows, err := host.Connections()
	if err != nil {
		return nil, 0, err
	}
	all := map[Session]bool{}
	for f := range flows {
		all[Session{policy.TCP, f.Remote, f.Local}] = true
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		tracked, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, 0, fmt.Errorf("asking connection tracking what is open: %w", err)
		}
		for _, t := range tracked {
			if over(t) {
				continue
			}
			for _, s := range sessionsOf(t) {
				all[s] = true
			}
		}
	}
	open = map[Session]bool{}
	services := r.Services(m)
	for s := range all {
		switch {
		case !own[s.Local.Addr()] || own[s.Remote.Addr()] || !r.Reaches(m, services, s):
		case r.Spares(s):
			spared++
		default:
			open[s] = true
		}
	}
	return open, spared, nil
}

// Reaches reports whether a session is one of a source that loses grants, with one of
// the services.
func (r *Revocation) Reaches(m *automaton.Machine, services []*automaton.Service, s Session) bool {
	return r.Concerns(m, s.Remote.Addr()) && slices.ContainsFunc(services, s.isTo)
}

// Spares reports whether a session is one that the caller is logged in by. Of a tunnel whose
// other end is not known it may be any, if not those of one source are concerned but all.
func (r *Revocation) Spares(s Session) bool {
	return slices.ContainsFunc(r.Spare, func(w host.Way) bool {
		switch {
		case w.Protocol != s.Protocol:
			return false
		case w.Remote.Port() != 0:
			return w.Remote == s.Remote
		case w.Port().Number != s.Local.Port():
			return false
		case w.Remote.Addr().IsValid():
			return w.Remote.Addr() == s.Remote.Addr()
		}
		return !r.From.IsValid()
	})
}

// isTo reports whether a session is one to a service.
func (s Session) isTo(service *automaton.Service) bool {
	return service.Port == policy.Port{Protocol: s.Protocol, Number: s.Local.Port()} &&
		(!service.Address.IsValid() || service.Address == s.Local.Addr())
}

// sessionsOf returns the sessions that an entry of connection tracking may be of. It is the
// other way round where a packet of the server's was the first that was tracked.
func sessionsOf(t *netlink.ConntrackFlow) [2]Session {
	session := func(tuple netlink.IPTuple) Session {
		from, _ := netip.AddrFromSlice(tuple.SrcIP)
		to, _ := netip.AddrFromSlice(tuple.DstIP)
		return Session{policy.Protocol(tuple.Protocol),
			netip.AddrPortFrom(from.Unmap(), tuple.SrcPort), netip.AddrPortFrom(to.Unmap(), tuple.DstPort)}
	}
	return [2]Session{session(t.Forward), session(t.Reverse)}
}

// over reports whether connection tracking only remembers a connection that has ended.
func over(t *netlink.ConntrackFlow) bool {
	const timeWait, closed = 7, 8 // TCP_CONNTRACK_TIME_WAIT and _CLOSE (nf_conntrack_tcp.h)
	tcp, ok := t.ProtoInfo.(*netlink.ProtoInfoTCP)
	return ok && (tcp.State == timeWait || tcp.State == closed)
}

// ownAddresses returns the addresses of this network namespace.
func ownAddresses() (map[netip.Addr]bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := map[netip.Addr]bool{}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if address, ok := netip.AddrFromSlice(n.IP); ok {
				own[address.Unmap()] = true
			}
		}
	}
	return own, nil
}

// End ends sessions. The socket of a TCP connection is closed, if it is this host's, and
// says so to its client; the kernel may be built without that
// (CONFIG_INET_DIAG_DESTROY). What connection tracking knows of them is forgotten: where
// the socket is another host's, or takes datagrams, the client's next packet belongs to
// no known flow. The rules must not let it in again.
func End(sessions map[Session]bool) error {
	failed := closeSockets(sessions)
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, tracks(sessions)); err != nil {
			failed = errors.Join(failed, fmt.Errorf("having connection tracking forget connections: %w", err))
		}
	}
	return failed
}

// tracks are the sessions whose entries of connection tracking are wanted.
type tracks map[Session]bool

func (t tracks) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	both := sessionsOf(flow)
	return t[both[0]] || t[both[1]]
}

// WithoutSockets returns how many of the sessions are no TCP connections of this host's own,
// whose sockets End closes.
func WithoutSockets(m *automaton.Machine, sessions map[Session]bool) (n int) {
	for s := range sessions {
		service := m.ServiceAt(s.Local.Addr(), policy.Port{Protocol: s.Protocol, Number: s.Local.Port()})
		if s.Protocol != policy.TCP || service != nil && service.Forward.IsValid() {
			n++
		}
	}
	return n
}

// closeSockets has the kernel close the sockets of TCP connections.
func closeSockets(sessions map[Session]bool) (failed error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return err
		}
		for _, s := range sockets {
			local, _ := netip.AddrFromSlice(s.ID.Source)
			remote, _ := netip.AddrFromSlice(s.ID.Destination)
			at := Session{policy.TCP,
				netip.AddrPortFrom(remote.Unmap(), s.ID.DestinationPort), netip.AddrPortFrom(local.Unmap(), s.ID.SourcePort)}
			if !sessions[at] || s.State == netlink.TCP_LISTEN {
				continue
			}
			err := destroy(family, &s.ID)
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
				failed = errors.Join(failed, fmt.Errorf("closing the connection from %s: %w", at.Remote, err))
			}
		}
	}
	return failed
}

// destroy closes one socket (SOCK_DESTROY of sock_diag, Linux 4.5). Its cookie must be
// known: of addresses and ports alone the kernel may find the socket that listens there.
func destroy(family uint8, id *netlink.SocketID) error {
	b := []byte{family, unix.IPPROTO_TCP, 0, 0, 0xff, 0xff, 0xff, 0xff} // struct inet_diag_req_v2: any state
	b = binary.BigEndian.AppendUint16(b, id.SourcePort)
	b = binary.BigEndian.AppendUint16(b, id.DestinationPort)
	for _, a := range []net.IP{id.Source, id.Destination} {
		if family == unix.AF_INET {
			a = append(a.To4(), make([]byte, 12)...)
		}
		b = append(b, a...)
	}
	for _, n := range []uint32{id.Interface, id.Cookie[0], id.Cookie[1]} {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	request := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	request.AddRawData(b)
	_, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// Open returns the clients' ends of the connections with a door's services.
func Open(m *automaton.Machine, d *automaton.Door) (remotes []netip.AddrPort, err error) {
	open, _, err := (&Revocation{Door: d}).Sessions(m)
	for s := range open {
		remotes = append(remotes, s.Remote)
	}
	return remotes, err
}
