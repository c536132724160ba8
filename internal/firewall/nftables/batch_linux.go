package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A batch is one transaction: the kernel does all of it or nothing.
//
// It is written here, and not by the library that reads the table back, because
// that one cannot say in which byte order the data of a map is; nft would list
// every state and service with its bytes reversed.
type batch struct {
	messages []netlink.Message
	about    []subject // what each message does, for errors
	err      error
}

// A subject is what a message is about.
type subject struct {
	text  string
	chain *chain // that it adds
	rule  *rule  // that it adds
}

// add appends a message of a type (NFT_MSG_...) about our table.
func (b *batch) add(about string, kind uint16, flags netlink.HeaderFlags, encode func(*netlink.AttributeEncoder)) {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	encode(ae)
	data, err := ae.Encode()
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("%s: %w", about, err)
	}
	b.messages = append(b.messages, netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | flags,
		},
		Data: append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	b.about = append(b.about, subject{text: about})
}

func (b *batch) addTable(name string, how netlink.HeaderFlags, flags uint32) {
	b.add("table "+name, unix.NFT_MSG_NEWTABLE, how, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, name)
		ae.Uint32(unix.NFTA_TABLE_FLAGS, flags)
	})
}

func (b *batch) delTable() {
	b.add("table "+Table, unix.NFT_MSG_DELTABLE, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, Table)
	})
}

// flushRules deletes the rules of all chains.
func (b *batch) flushRules() {
	b.add("the rules", unix.NFT_MSG_DELRULE, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, Table)
	})
}

func (b *batch) addCounter(name string) {
	b.add("counter "+name, unix.NFT_MSG_NEWOBJ, netlink.Create, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_OBJ_TABLE, Table)
		ae.String(unix.NFTA_OBJ_NAME, name)
		ae.Uint32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
		ae.Nested(unix.NFTA_OBJ_DATA, func(*netlink.AttributeEncoder) error { return nil })
	})
}

func (b *batch) delObject(name string, kind uint32) {
	b.add("object "+name, unix.NFT_MSG_DELOBJ, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_OBJ_TABLE, Table)
		ae.String(unix.NFTA_OBJ_NAME, name)
		ae.Uint32(unix.NFTA_OBJ_TYPE, kind)
	})
}

func (b *batch) addChain(c *chain) {
	b.add("chain "+c.name, unix.NFT_MSG_NEWCHAIN, netlink.Create, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_TABLE, Table)
		ae.String(unix.NFTA_CHAIN_NAME, c.name)
		if c.base == nil {
			return
		}
		ae.Nested(unix.NFTA_CHAIN_HOOK, func(ae *netlink.AttributeEncoder) error {
			ae.Uint32(unix.NFTA_HOOK_HOOKNUM, uint32(*c.base.hook))
			ae.Int32(unix.NFTA_HOOK_PRIORITY, int32(c.base.priority))
			return nil
		})
		// Never a policy of drop: the kernel begins to call a new chain
		// before the transaction ends, when it is still empty.
		ae.Uint32(unix.NFTA_CHAIN_POLICY, uint32(nft.ChainPolicyAccept))
		ae.String(unix.NFTA_CHAIN_TYPE, string(c.base.kind))
	})
	b.about[len(b.about)-1].chain = c
}

func (b *batch) delChain(name string) {
	b.add("chain "+name, unix.NFT_MSG_DELCHAIN, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_TABLE, Table)
		ae.String(unix.NFTA_CHAIN_NAME, name)
	})
}

func (b *batch) addRule(c *chain, r *rule) {
	b.add("chain "+c.name+": "+r.text(), unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, Table)
		ae.String(unix.NFTA_RULE_CHAIN, c.name)
		ae.Nested(unix.NFTA_RULE_EXPRESSIONS, func(ae *netlink.AttributeEncoder) error {
			for _, e := range r.exprs() {
				data, err := marshal(e)
				if err != nil {
					return err
				}
				ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, data)
			}
			return nil
		})
	})
	b.about[len(b.about)-1].rule = r
}

// marshal returns an expression as the kernel takes it. The library leaves out a write's
// flags of checksums where the header has none itself, as IPv6's.
func marshal(e expr.Any) ([]byte, error) {
	w, ok := e.(*expr.Payload)
	if !ok || w.CsumType != expr.CsumTypeNone || w.CsumFlags == 0 {
		return expr.Marshal(unix.NFPROTO_INET, e)
	}
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.String(unix.NFTA_EXPR_NAME, "payload")
	ae.Nested(unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) error {
		ae.ByteOrder = binary.BigEndian
		ae.Uint32(unix.NFTA_PAYLOAD_SREG, w.SourceRegister)
		ae.Uint32(unix.NFTA_PAYLOAD_BASE, uint32(w.Base))
		ae.Uint32(unix.NFTA_PAYLOAD_OFFSET, w.Offset)
		ae.Uint32(unix.NFTA_PAYLOAD_LEN, w.Len)
		ae.Uint32(unix.NFTA_PAYLOAD_CSUM_FLAGS, w.CsumFlags)
		return nil
	})
	return ae.Encode()
}

// Set flags and user data that the unix package lacks; the latter are nft's own
// (libnftnl's udata.h): in which byte order to print keys and data.
const (
	setKeyByteOrder  = 0
	setDataByteOrder = 1
	setKeyTypeof     = 3
	setDataTypeof    = 4
	setComment       = 7

	hostEndian = 1
	bigEndian  = 2
)

// tlv is one value of userdata: type, length, value. Values may be such lists themselves.
func tlv(kind byte, value ...byte) []byte { return append([]byte{kind, byte(len(value))}, value...) }

func tlvNumber(kind byte, n uint32) []byte {
	return tlv(kind, binary.NativeEndian.AppendUint32(nil, n)...)
}

// What nft keeps of `typeof @th,64,128` and of `typeof meta priority`: a kind of
// expression, and what it is of.
var (
	typeofTag = append(tlvNumber(0, 7), tlv(1, slices.Concat( // a payload
		tlvNumber(0, 0), tlvNumber(1, 0), // of no header that it knows
		tlvNumber(2, 3), tlvNumber(3, 64), tlvNumber(4, 128))...)...)
	typeofCarried = append(tlvNumber(0, 9), tlv(1, tlvNumber(0, unix.NFT_META_PRIORITY)...)...)
)

func (b *batch) addSet(s *set, id uint32) {
	b.add("set "+s.name, unix.NFT_MSG_NEWSET, netlink.Create, func(ae *netlink.AttributeEncoder) {
		var flags uint32
		for flag, has := range map[uint32]bool{
			unix.NFT_SET_INTERVAL: s.interval, unix.NFT_SET_TIMEOUT: s.timeout, unix.NFT_SET_EVAL: s.dynamic,
			unix.NFT_SET_MAP: s.data != nil || s.verdict,
		} {
			if has {
				flags |= flag
			}
		}
		key := s.keyType()
		ae.String(unix.NFTA_SET_TABLE, Table)
		ae.String(unix.NFTA_SET_NAME, s.name)
		ae.Uint32(unix.NFTA_SET_ID, id)
		ae.Uint32(unix.NFTA_SET_FLAGS, flags)
		ae.Uint32(unix.NFTA_SET_KEY_TYPE, key.GetNFTMagic())
		ae.Uint32(unix.NFTA_SET_KEY_LEN, key.Bytes)
		switch {
		case s.verdict:
			ae.Uint32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
			ae.Uint32(unix.NFTA_SET_DATA_LEN, 0)
		case s.data != nil:
			ae.Uint32(unix.NFTA_SET_DATA_TYPE, s.data.GetNFTMagic())
			ae.Uint32(unix.NFTA_SET_DATA_LEN, s.data.Bytes)
		}
		if s.size > 0 {
			ae.Nested(unix.NFTA_SET_DESC, func(ae *netlink.AttributeEncoder) error {
				ae.Uint32(unix.NFTA_SET_DESC_SIZE, s.size)
				return nil
			})
		}
		if s.sweep > 0 {
			ae.Uint32(unix.NFTA_SET_GC_INTERVAL, uint32(s.sweep.Milliseconds()))
		}
		ae.Bytes(unix.NFTA_SET_USERDATA, s.userdata())
	})
}

// userdata is what nft keeps with a set for its own use: type, length, value.
func (s *set) userdata() []byte {
	order := func(types ...datatype) uint32 {
		switch {
		case len(types) > 1:
			return 0 // each part has its own
		case types[0].Name == "classid" || types[0].Name == "ifname":
			return hostEndian
		default:
			return bigEndian
		}
	}
	data := tlvNumber(setKeyByteOrder, order(s.key...))
	if s.data != nil {
		data = append(data, tlvNumber(setDataByteOrder, order(*s.data))...)
	}
	if s.isTag() {
		data = append(data, tlv(setKeyTypeof, typeofTag...)...)
		if s.data != nil {
			data = append(data, tlv(setDataTypeof, typeofCarried...)...)
		}
	}
	if s.comment != "" {
		data = append(data, tlv(setComment, append([]byte(s.comment), 0)...)...)
	}
	return data
}

// flushSet deletes all elements of a set.
func (b *batch) flushSet(name string) {
	b.add("the elements of "+name, unix.NFT_MSG_DELSETELEM, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, Table)
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, name)
	})
}

func (b *batch) delSet(name string) {
	b.add("set "+name, unix.NFT_MSG_DELSET, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_TABLE, Table)
		ae.String(unix.NFTA_SET_NAME, name)
	})
}

// maxEntries keeps the list of elements of a message within the 64 KiB that an
// attribute can hold: an entry takes at most 160 bytes.
const maxEntries = 400

func (b *batch) addElements(set string, entries []entry) {
	b.elements(set, unix.NFT_MSG_NEWSETELEM, netlink.Create, entries)
}

// delElements deletes elements that are there.
func (b *batch) delElements(set string, entries []entry) {
	b.elements(set, unix.NFT_MSG_DELSETELEM, 0, entries)
}

// renewElements puts elements in the place of what is there of their keys, or nothing:
// deleting what is not there would be an error, and adding what is changes nothing.
func (b *batch) renewElements(set string, entries []entry) {
	b.dropElements(set, entries)
	b.addElements(set, entries)
}

// dropElements deletes what is there of some keys, or nothing.
func (b *batch) dropElements(set string, entries []entry) {
	b.addElements(set, entries)
	b.delElements(set, entries)
}

func (b *batch) elements(set string, kind uint16, flags netlink.HeaderFlags, entries []entry) {
	for len(entries) > 0 {
		n := min(len(entries), maxEntries)
		part := entries[:n]
		entries = entries[n:]
		b.add("elements of "+set, kind, flags, func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, Table)
			ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
			ae.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(ae *netlink.AttributeEncoder) error {
				for i := range part {
					ae.Nested(unix.NFTA_LIST_ELEM, part[i].encode)
				}
				return nil
			})
		})
	}
}

func (e *entry) encode(ae *netlink.AttributeEncoder) error {
	value := func(b []byte) func(*netlink.AttributeEncoder) error {
		return func(ae *netlink.AttributeEncoder) error {
			ae.Bytes(unix.NFTA_DATA_VALUE, b)
			return nil
		}
	}
	if e.intervalEnd {
		ae.Uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	ae.Nested(unix.NFTA_SET_ELEM_KEY, value(e.key))
	switch {
	case e.verdict != nil:
		ae.Nested(unix.NFTA_SET_ELEM_DATA, func(ae *netlink.AttributeEncoder) error {
			ae.Nested(unix.NFTA_DATA_VERDICT, func(ae *netlink.AttributeEncoder) error {
				ae.Int32(unix.NFTA_VERDICT_CODE, int32(e.verdict.Kind))
				ae.String(unix.NFTA_VERDICT_CHAIN, e.verdict.Chain)
				return nil
			})
			return nil
		})
	case e.data != nil:
		ae.Nested(unix.NFTA_SET_ELEM_DATA, value(e.data))
	}
	if e.expire > 0 {
		ae.Uint64(unix.NFTA_SET_ELEM_TIMEOUT, uint64(e.expire.Milliseconds()))
	}
	if e.limit != nil {
		limit, err := marshal(e.limit.expr())
		if err != nil {
			return err
		}
		ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_EXPR, limit)
	}
	return nil
}

// nfnlBatchGenID is NFNL_BATCH_GENID: the generation that the batch is for
// (Linux 4.12).
const nfnlBatchGenID = 1

// batchBegin begins a batch for a generation of the kernel's rules; 0 is any.
func batchBegin(generation uint32) netlink.Message {
	data := batchHeader()
	if generation != 0 {
		ae := netlink.NewAttributeEncoder()
		ae.ByteOrder = binary.BigEndian
		ae.Uint32(nfnlBatchGenID, generation)
		id, err := ae.Encode()
		if err != nil {
			panic(err) // it fits
		}
		data = append(data, id...)
	}
	return netlink.Message{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: data}
}

func batchHeader() []byte {
	return []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
}

// commit sends the batch, over a new connection if there is none to send it via. If
// the rules of the kernel, ours or others', are no longer those of the generation,
// it fails with ERESTART and changes nothing; 0 is any generation.
func (b *batch) commit(conn *netlink.Conn, generation uint32) error {
	if b.err != nil || len(b.messages) == 0 {
		return b.err
	}
	if conn == nil {
		var err error
		if conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
			return err
		}
		defer conn.Close()
	} else if err := discard(conn); err != nil {
		return err
	}
	size := 0
	for i := range b.messages {
		size += 16 + len(b.messages[i].Data)
	}
	// Root gets any size of buffer; others, and root of a user namespace, up
	// to net.core.wmem_max. Twice the size, as the kernel counts its own use.
	if err := conn.SetWriteBuffer(2*size + 1<<16); err != nil {
		return err
	}

	all := []netlink.Message{batchBegin(generation)}
	all = append(all, b.messages...)
	// The last change is acknowledged; every failure is told in any case.
	all[len(all)-1].Header.Flags |= netlink.Acknowledge
	all = append(all, netlink.Message{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: batchHeader()})

	sent, err := conn.SendMessages(all)
	if err != nil {
		return err
	}
	if err = answer(conn, sent); err == nil {
		return nil
	}
	var op *netlink.OpError
	if errors.As(err, &op) {
		for i := range b.about {
			if sent[i+1].Header.Sequence == op.Sequence {
				if errors.Is(err, unix.ENOENT) {
					if lacks := lacking(b.about[i], err); lacks != nil {
						return lacks
					}
				}
				return fmt.Errorf("%s: %w", b.about[i].text, err)
			}
		}
	}
	return err
}

// answer returns the kernel's first answer to what was sent. What is left of the answers to an
// earlier batch, and was not there yet when they were discarded, is passed over: taken for
// the answer to this one, it would say that a batch was carried out that was not.
func answer(conn *netlink.Conn, sent []netlink.Message) error {
	for {
		got, err := conn.Receive()
		op, _ := errors.AsType[*netlink.OpError](err)
		sequence := uint32(0)
		switch {
		case op != nil:
			sequence = op.Sequence
		case len(got) > 0:
			sequence = got[0].Header.Sequence
		}
		if sequence == 0 || slices.ContainsFunc(sent, func(m netlink.Message) bool { return m.Header.Sequence == sequence }) {
			return err
		}
	}
}

// discard reads what is left of the answers to an earlier batch: one that fails may
// get an error for each of several messages.
func discard(conn *netlink.Conn) error {
	if err := conn.SetReadDeadline(time.Now()); err != nil {
		return err
	}
	for {
		_, err := conn.Receive()
		switch op, _ := errors.AsType[*netlink.OpError](err); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return conn.SetReadDeadline(time.Time{})
		case err != nil && (op == nil || op.Sequence == 0): // no answer of the kernel's
			return err
		}
	}
}
