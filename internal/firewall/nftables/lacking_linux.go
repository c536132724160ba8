package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
)

// lacking returns an error that names what the kernel lacks for a message that it has
// refused with ENOENT, or nil if it cannot be found out. Each part is tried alone, in
// a batch that does not end and is therefore never carried out.
func lacking(about subject, err error) error {
	var modules []string
	switch {
	case about.rule != nil:
		for _, e := range about.rule.exprs() {
			if name := exprName(e); !builtIn(name) && !slices.Contains(modules, exprModule(name)) && refusesAlone(e) {
				modules = append(modules, exprModule(name))
			}
		}
	case about.chain != nil && about.chain.base != nil && absent(func(b *batch) { b.addChain(about.chain) }):
		modules = []string{"nft_chain_" + string(about.chain.base.kind)}
	}
	if len(modules) == 0 {
		return nil
	}
	return &firewall.UnsupportedError{
		What: "kernel module " + modules[0] + ", which the rules need",
		Hint: fmt.Sprintf("load it with `modprobe %s`; if the kernel does not come with it, install the package with its "+
			"further modules, or try the iptables backend", modules[0]),
		Err: err,
	}
}

// exprName returns the kernel's name for a kind of expression.
func exprName(e expr.Any) string {
	data, err := expr.Marshal(unix.NFPROTO_INET, e)
	if err != nil {
		return ""
	}
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return ""
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() == unix.NFTA_EXPR_NAME {
			return ad.String()
		}
	}
	return ""
}

// builtIn reports whether a kind of expression is a part of nf_tables itself since Linux
// 4.12 (nft_basic_types in net/netfilter/nf_tables_core.c). Those that name a set or
// a chain are among them: alone they would be refused for want of it.
func builtIn(name string) bool {
	return slices.Contains([]string{"", "immediate", "cmp", "lookup", "bitwise", "byteorder", "payload", "dynset", "range", "meta", "rt", "exthdr"}, name)
}

// exprModule returns the module that has a kind of expression, for tables of both
// families.
func exprModule(name string) string {
	switch name {
	case "fib", "reject":
		return "nft_" + name + "_inet"
	}
	return "nft_" + name
}

// refusesAlone reports whether the kernel finds something missing in a rule of one
// expression.
func refusesAlone(e expr.Any) bool {
	return absent(func(b *batch) {
		if o, named := e.(*expr.Objref); named {
			b.addCounter(o.Name)
		}
		c := &chain{name: probeTable}
		b.addChain(c)
		b.addRule(c, &rule{statements: []statement{simple("", e)}})
	})
}

// absent reports whether the kernel answers ENOENT to the last message that fill adds
// to a batch. The batch is not carried out, as it does not end.
func absent(fill func(*batch)) bool {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return false
	}
	defer conn.Close()
	var b batch
	b.addTable(Table, netlink.Create, 0)
	fill(&b)
	last := len(b.messages) - 1
	b.messages[last].Header.Flags |= netlink.Acknowledge
	sent, err := conn.SendMessages(append([]netlink.Message{batchBegin(0)}, b.messages...))
	if b.err != nil || err != nil {
		return false
	}
	_, err = conn.Receive()
	op, refused := errors.AsType[*netlink.OpError](err)
	return refused && op.Sequence == sent[last+1].Header.Sequence && errors.Is(err, unix.ENOENT)
}
