package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/host"
)

// How long a connection that conntrack is told of may be silent: as long as
// conntrack remembers one that it has seen (nf_conntrack_tcp_timeout_established),
// or one that is still being made (nf_conntrack_tcp_timeout_syn_recv).
const (
	openFor     = 5 * 24 * time.Hour
	halfOpenFor = time.Minute
)

// trackSessions informs conntrack of this host's TCP connections. On a host where
// no rule has asked for conntrack so far it knows of none, and the rules would take
// their packets for strays.
func trackSessions() error {
	flows, err := firewall.Connections()
	if err != nil {
		return err
	}
	return track(flows)
}

// track informs conntrack of flows. If it refuses one it still gets the others.
func track(flows host.Flows) error {
	if len(flows) == 0 {
		return nil
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("telling conntrack of them: %w", err)
	}
	defer conn.Close()
	var first error
	untracked := 0
	for flow, stage := range flows {
		message, err := trackMessage(flow, stage)
		if err == nil {
			_, err = conn.Execute(message)
		}
		// It knows some of them, perhaps with their addresses translated.
		if err == nil || errors.Is(err, unix.EEXIST) {
			continue
		}
		if untracked++; first == nil {
			first = fmt.Errorf("that of %s with %s: %w", flow.Local, flow.Remote, err)
		}
	}
	if first != nil {
		return fmt.Errorf("conntrack does not take %d of %d (does the kernel have nf_conntrack_netlink?), such as %w", untracked, len(flows), first)
	}
	return nil
}

// What linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h and
// nf_conntrack_tcp.h call these.
const (
	ctStatus      = 3 // CTA_STATUS
	ctProtoInfo   = 4
	ctTimeout     = 7
	ctTCP         = 1 // CTA_PROTOINFO_TCP
	ctTCPState    = 1
	ctTCPOriginal = 4 // CTA_PROTOINFO_TCP_FLAGS_ORIGINAL
	ctTCPReply    = 5

	seenReply, assured, confirmed = 1 << 1, 1 << 2, 1 << 3 // IPS_…
	established                   = 3                      // TCP_CONNTRACK_ESTABLISHED
	beLiberal                     = 1 << 3                 // IP_CT_TCP_FLAG_BE_LIBERAL
)

// trackMessage makes the message by which conntrack learns of a flow. It must not look
// at the sequence numbers, of which it has seen none.
func trackMessage(flow host.Flow, stage host.Stage) (netlink.Message, error) {
	timeout := openFor
	if stage == host.HalfOpen {
		timeout = halfOpenFor
	}
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	// Whichever side began it, each may send.
	ae.Nested(host.TupleOrig, host.Tuple(unix.IPPROTO_TCP, flow.Remote, flow.Local))
	ae.Nested(host.TupleReply, host.Tuple(unix.IPPROTO_TCP, flow.Local, flow.Remote))
	ae.Uint32(ctStatus, seenReply|assured|confirmed)
	ae.Uint32(ctTimeout, uint32(timeout/time.Second))
	ae.Nested(ctProtoInfo, func(ae *netlink.AttributeEncoder) error {
		ae.Nested(ctTCP, func(ae *netlink.AttributeEncoder) error {
			ae.Uint8(ctTCPState, established)
			ae.Bytes(ctTCPOriginal, []byte{beLiberal, beLiberal})
			ae.Bytes(ctTCPReply, []byte{beLiberal, beLiberal})
			return nil
		})
		return nil
	})
	attributes, err := ae.Encode()
	if err != nil {
		return netlink.Message{}, err
	}
	family := byte(unix.AF_INET)
	if flow.Remote.Addr().Is6() {
		family = unix.AF_INET6
	}
	const create = 0 // IPCTNL_MSG_CT_NEW
	return netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_CTNETLINK<<8 | create,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	}, nil
}
