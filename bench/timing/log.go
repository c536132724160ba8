//go:build linux

package main

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

// logGroup is the NFLOG group of the measured policies. The kernel's own log
// takes no lines from a network namespace, and they would cost nothing.
const logGroup = 5

// What the kernel calls the messages of NFLOG (linux/netfilter/nfnetlink_log.h).
const (
	nflogConfig    = unix.NFNL_SUBSYS_ULOG<<8 | 1
	nflogCommand   = 1 // attributes of a config
	nflogMode      = 2
	nflogThreshold = 5
)

// readLog reads the lines that a host's rules log, as ulogd does, until the lab
// is closed.
func readLog(l *lab.Lab, h *lab.Host) error {
	var conn *netlink.Conn
	if err := h.Do(func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	}); err != nil {
		return err
	}
	l.OnClose(conn.Close)
	config, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: nflogCommand, Data: []byte{1}},              // bind
		{Type: nflogMode, Data: []byte{0, 0, 0, 60, 2, 0}}, // 60 octets of each packet
		{Type: nflogThreshold, Data: []byte{0, 0, 0, 1}},   // at once
	})
	if err != nil {
		return err
	}
	if _, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: nflogConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, logGroup), config...),
	}); err != nil {
		return err
	}
	go func() {
		for {
			if _, err := conn.Receive(); err != nil {
				return // closed
			}
		}
	}()
	return nil
}
