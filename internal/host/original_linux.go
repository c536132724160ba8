package host

import (
	"encoding/binary"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// original returns where the packets of a way were sent to, before a NAT rule
// redirected them. Connection tracking knows; where it does not, or may not be asked,
// nothing was redirected.
func original(way Way) netip.AddrPort {
	if way.Remote.Port() == 0 || way.Local.Port() == 0 {
		return way.Local
	}
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.Nested(TupleReply, Tuple(uint8(way.Protocol), way.Local, way.Remote))
	attributes, err := ae.Encode()
	if err != nil {
		return way.Local
	}
	family := byte(unix.AF_INET)
	if way.Local.Addr().Is6() {
		family = unix.AF_INET6
	}
	const get = 1 // IPCTNL_MSG_CT_GET
	// The kernel marks its one answer as one of many, and sends no end of them: package
	// mdlayher/netlink would wait for it. Here the acknowledgement ends them.
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|get, unix.NLM_F_ACK)
	request.AddRawData(append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...))
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil || len(answers) == 0 || len(answers[0]) < 4 {
		return way.Local
	}
	to := originalDestination(answers[0][4:])
	// A connection that is older than connection tracking has the direction of the
	// first packet that was seen, which may be an answer.
	if !to.IsValid() || to == way.Remote {
		return way.Local
	}
	return to
}

// The directions of a connection in messages of connection tracking.
const (
	TupleOrig  = 1 // CTA_TUPLE_ORIG
	TupleReply = 2
)

// Tuple encodes one direction of a connection for connection tracking.
func Tuple(protocol uint8, from, to netip.AddrPort) func(*netlink.AttributeEncoder) error {
	return func(ae *netlink.AttributeEncoder) error {
		ae.Nested(ctTupleIP, func(ae *netlink.AttributeEncoder) error {
			source := uint16(ctIPv4Src)
			if from.Addr().Is6() {
				source = ctIPv6Src
			}
			ae.Bytes(source, from.Addr().AsSlice())
			ae.Bytes(source+1, to.Addr().AsSlice())
			return nil
		})
		ae.Nested(ctTupleProto, func(ae *netlink.AttributeEncoder) error {
			ae.Uint8(ctProtoNum, protocol)
			ae.Uint16(ctProtoSrc, from.Port())
			ae.Uint16(ctProtoDst, to.Port())
			return nil
		})
		return nil
	}
}

// What linux/netfilter/nfnetlink_conntrack.h calls these.
const (
	ctTupleIP    = 1 // CTA_TUPLE_IP
	ctTupleProto = 2
	ctIPv4Src    = 1 // CTA_IP_V4_SRC; the destination is the next one
	ctIPv6Src    = 3
	ctProtoNum   = 1 // CTA_PROTO_NUM
	ctProtoSrc   = 2
	ctProtoDst   = 3
)

// originalDestination reads the destination of an entry's original direction.
func originalDestination(attributes []byte) netip.AddrPort {
	var address netip.Addr
	var port uint16
	ad, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return netip.AddrPort{}
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() != TupleOrig {
			continue
		}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				inside := ad.Type()
				ad.Nested(func(ad *netlink.AttributeDecoder) error {
					for ad.Next() {
						switch {
						case inside == ctTupleIP && (ad.Type() == ctIPv4Src+1 || ad.Type() == ctIPv6Src+1):
							address, _ = netip.AddrFromSlice(ad.Bytes())
						case inside == ctTupleProto && ad.Type() == ctProtoDst:
							port = ad.Uint16()
						}
					}
					return nil
				})
			}
			return nil
		})
	}
	if ad.Err() != nil || !address.IsValid() || port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(address.Unmap(), port)
}
