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
	ae.Nested(ctTupleReply, func(ae *netlink.AttributeEncoder) error {
		ae.Nested(ctTupleIP, func(ae *netlink.AttributeEncoder) error {
			source := uint16(ctIPv4Src)
			if way.Local.Addr().Is6() {
				source = ctIPv6Src
			}
			ae.Bytes(source, way.Local.Addr().AsSlice())
			ae.Bytes(source+1, way.Remote.Addr().AsSlice())
			return nil
		})
		ae.Nested(ctTupleProto, func(ae *netlink.AttributeEncoder) error {
			ae.Uint8(ctProtoNum, uint8(way.Protocol))
			ae.Uint16(ctProtoSrc, way.Local.Port())
			ae.Uint16(ctProtoDst, way.Remote.Port())
			return nil
		})
		return nil
	})
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

// What linux/netfilter/nfnetlink_conntrack.h calls these.
const (
	ctTupleOrig  = 1 // CTA_TUPLE_ORIG
	ctTupleReply = 2
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
		if ad.Type() != ctTupleOrig {
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
