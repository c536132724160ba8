package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// devices are interfaces by their names, or by how these begin.
type devices struct{ names, prefixes []string }

func (d devices) has(name string) bool {
	return slices.Contains(d.names, name) ||
		slices.ContainsFunc(d.prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// ingressDevices returns the interfaces at whose ingress a chain of nftables has rules. They are
// asked behind the program and before those of a host, and may forward a packet or change its
// address.
func ingressDevices() (d devices, err error) {
	conn, err := nl.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return d, err
	}
	defer conn.Close()
	chains, err := conn.Execute(nl.Message{
		Header: nl.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN, Flags: nl.Request | nl.Dump},
		Data:   make([]byte, 4), // struct nfgenmsg: of any family
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return d, nil // this kernel has no nftables
	}
	if err != nil {
		return d, fmt.Errorf("cannot list the chains of nftables: %w", err)
	}
	for _, m := range chains {
		if len(m.Data) < 4 {
			continue
		}
		family := m.Data[0]
		attributes, err := nl.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return d, err
		}
		attributes.ByteOrder = binary.BigEndian // and so in what is nested
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_CHAIN_HOOK {
				attributes.Nested(func(hook *nl.AttributeDecoder) error { d.add(family, hook); return nil })
			}
		}
		if err := attributes.Err(); err != nil {
			return d, err
		}
	}
	return d, nil
}

// add adds the interfaces of a chain's hook, if that is ingress.
func (d *devices) add(family byte, hook *nl.AttributeDecoder) {
	const (
		ingress, inetIngress = 0, 5 // NF_NETDEV_INGRESS, NF_INET_INGRESS
		hookDevices          = 4    // NFTA_HOOK_DEVS
		name, prefix         = 1, 2 // NFTA_DEVICE_NAME, NFTA_DEVICE_PREFIX
	)
	var here devices
	number := uint32(0)
	for hook.Next() {
		switch hook.Type() {
		case unix.NFTA_HOOK_HOOKNUM:
			number = hook.Uint32()
		case unix.NFTA_HOOK_DEV:
			here.names = append(here.names, hook.String())
		case hookDevices:
			hook.Nested(func(all *nl.AttributeDecoder) error {
				for all.Next() {
					switch all.Type() {
					case name:
						here.names = append(here.names, all.String())
					case prefix:
						here.prefixes = append(here.prefixes, all.String())
					}
				}
				return nil
			})
		}
	}
	if family == unix.NFPROTO_NETDEV && number == ingress || family == unix.NFPROTO_INET && number == inetIngress {
		d.names, d.prefixes = append(d.names, here.names...), append(d.prefixes, here.prefixes...)
	}
}
