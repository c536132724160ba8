package watchdog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"postern/internal/firewall"
)

// notices hears of the changes of all rules of the network namespace.
type notices struct {
	file     *os.File
	readable chan struct{} // there is something to read
	buffer   []byte
}

// receiveBuffer is how much may wait while rules are being loaded. The kernel counts
// twice what it holds. When it is full notices are lost, and the rules are read
// instead.
var receiveBuffer = 8 << 20

// listen begins to hear of changes.
func listen() (*notices, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("listening for changes of rules: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // as much as it may be
	}
	// Any number but that of this process, by which nft names the owner of a table.
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 1<<31 | uint32(os.Getpid())})
	if errors.Is(err, unix.EADDRINUSE) {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listening for changes of rules: %w", err)
	}
	n := &notices{
		file: os.NewFile(uintptr(fd), "netlink"), readable: make(chan struct{}),
		buffer: make([]byte, 256<<10), // the kernel packs many into one of 8 KiB
	}
	go n.wait()
	return n, nil
}

// wait sends to readable for as long as there is something to read, until the file is
// closed.
func (n *notices) wait() {
	raw, err := n.file.SyscallConn()
	for err == nil {
		err = raw.Read(func(fd uintptr) bool {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			count, err := unix.Poll(ready, 0)
			return err == nil && count > 0
		})
		if err == nil {
			n.readable <- struct{}{}
		}
	}
}

// heard is what notices said.
type heard struct {
	hit  bool   // there was a change that concerns us
	gone bool   // it took the table
	by   string // the program that asked for it, if it is known
	lost bool   // notices were lost, and what they said with them
}

// How many datagrams are read before what they said is looked at. All that one change
// of rules can leave in the buffer is less than allNotices.
const (
	someNotices = 256
	allNotices  = 1 << 16
)

// read reads what there is, and asks the filter what of it concerns us.
func (n *notices) read(most int, filter func(firewall.Notice) bool) (all heard) {
	raw, err := n.file.SyscallConn()
	if err != nil {
		return heard{lost: true}
	}
	open := false // a transaction concerns us, and who asked for it comes last
	for range most {
		var size int
		var from unix.Sockaddr
		raw.Control(func(fd uintptr) { size, _, _, from, err = unix.Recvmsg(int(fd), n.buffer, nil, 0) })
		sender, _ := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return all
		case errors.Is(err, unix.EINTR):
		case err != nil: // ENOBUFS
			all.lost = true
		case sender != nil && sender.Pid == 0: // the kernel
			all.parse(n.buffer[:size], &open, filter)
		}
	}
	return all
}

// The parts of notices: see linux/netfilter/nfnetlink.h and nf_tables.h.
const (
	messageHeader  = 16
	familyHeader   = 4
	newGeneration  = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	generationPID  = 2 // NFTA_GEN_PROC_PID
	generationName = 3 // NFTA_GEN_PROC_NAME
)

// parse reads the messages of a datagram. The last one of each transaction names the
// process that asked for it.
func (all *heard) parse(data []byte, open *bool, filter func(firewall.Notice) bool) {
	for len(data) >= messageHeader+familyHeader {
		size := int(binary.NativeEndian.Uint32(data))
		if size < messageHeader+familyHeader || size > len(data) {
			return
		}
		message := data[:size]
		data = data[min((size+3)&^3, len(data)):]
		kind := binary.NativeEndian.Uint16(message[4:])
		switch {
		case kind == newGeneration:
			if *open {
				all.by = process(message[messageHeader+familyHeader:])
			}
			*open = false
		case kind>>8 == unix.NFNL_SUBSYS_NFTABLES:
			if notice, ok := parseNotice(message, kind&0xff); ok && filter(notice) {
				*open, all.hit, all.gone = true, true, notice.Gone
			}
		}
	}
}

// families are those whose tables may be ours, in nft's words.
var families = map[byte]string{unix.NFPROTO_INET: "inet ", unix.NFPROTO_IPV4: "ip ", unix.NFPROTO_IPV6: "ip6 "}

// parseNotice reads what a message is about.
func parseNotice(message []byte, kind uint16) (n firewall.Notice, ok bool) {
	family, ok := families[message[messageHeader]]
	if !ok {
		return n, false
	}
	name := func(attribute uint16) string {
		return text(find(message[messageHeader+familyHeader:], attribute))
	}
	n.Sender = binary.NativeEndian.Uint32(message[12:])
	n.Table = family + name(unix.NFTA_TABLE_NAME) // whatever the kind
	switch kind {
	case unix.NFT_MSG_DELTABLE:
		n.Gone = true
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		n.Chain = name(unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		n.Chain = name(unix.NFTA_RULE_CHAIN)
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		n.Set = name(unix.NFTA_SET_ELEM_LIST_SET)
	}
	return n, true
}

// find returns the value of an attribute.
func find(attributes []byte, kind uint16) []byte {
	for len(attributes) >= 4 {
		size := int(binary.NativeEndian.Uint16(attributes))
		if size < 4 || size > len(attributes) {
			return nil
		}
		if binary.NativeEndian.Uint16(attributes[2:])&0x3fff == kind { // NLA_TYPE_MASK
			return attributes[4:size]
		}
		attributes = attributes[min((size+3)&^3, len(attributes)):]
	}
	return nil
}

func text(value []byte) string { return strings.TrimRight(string(value), "\x00") }

// process names who made a generation: "nft (process 4711)". The number is as the
// machine counts, also for what is in a container.
func process(attributes []byte) string {
	name, pid := text(find(attributes, generationName)), find(attributes, generationPID)
	if name == "" || len(pid) != 4 {
		return ""
	}
	return fmt.Sprintf("%s (process %d)", name, binary.BigEndian.Uint32(pid))
}

func (n *notices) close() { n.file.Close() }
