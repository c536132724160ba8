//go:build linux

package nftables

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// change adds, updates or deletes an element.
type change struct {
	op     string
	set    *set
	key    []field
	data   *field
	expire time.Duration
	limit  *rate
}

func (c change) text() string {
	text := c.op + " @" + c.set.name + " { " + texts(c.key)
	if c.expire > 0 {
		text += " timeout " + durationText(c.expire)
	}
	if c.limit != nil {
		text += " " + c.limit.text()
	}
	if c.data != nil {
		text += " : " + c.data.text
	}
	return text + " }"
}

func (c change) emit(k *known) {
	ops := map[string]uint32{
		"add": unix.NFT_DYNSET_OP_ADD, "update": unix.NFT_DYNSET_OP_UPDATE, "delete": nftDynsetDelete,
	}
	used := k.load(c.key)
	d := &expr.Dynset{SrcRegKey: register(0), SetName: c.set.name, Operation: ops[c.op], Timeout: c.expire}
	if c.data != nil {
		slot := (used + 3) / 4 * 4 // the next 16-byte register, as nft does
		k.append(c.data.load(register(slot))...)
		d.SrcRegData = register(slot)
	}
	if c.limit != nil {
		d.Exprs = []expr.Any{c.limit.expr()}
	}
	k.append(d)
}

// The data of a map's element must be said to delete it, but not be right.

func insert(s *set, expire time.Duration, key ...field) change {
	return change{op: "add", set: s, key: key, expire: expire}
}

func refresh(s *set, expire time.Duration, key ...field) change {
	return change{op: "update", set: s, key: key, expire: expire}
}

func remove(s *set, key ...field) change { return change{op: "delete", set: s, key: key} }

func (c change) with(data field) change { c.data = &data; return c }

func (c change) limited(r rate) change { c.limit = &r; return c }

// durationText writes a time as nft lists it: "1m10s", "500ms".
func durationText(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / unit.length; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.length
		}
	}
	return b.String()
}

// A rate matches a number of packets a time; with over, those beyond it.
type rate struct {
	n     uint64
	unit  expr.LimitTime
	burst uint32
	over  bool
}

func (r rate) text() string {
	unit := "second"
	if r.unit == expr.LimitTimeWeek {
		unit = "week"
	}
	over := ""
	if r.over {
		over = "over "
	}
	return fmt.Sprintf("limit rate %s%d/%s burst %d packets", over, r.n, unit, r.burst)
}

func (r rate) expr() expr.Any {
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: r.n, Unit: r.unit, Burst: r.burst, Over: r.over}
}

func (r rate) emit(k *known) { k.append(r.expr()) }

// nftDynsetDelete is NFT_DYNSET_OP_DELETE (Linux 5.4).
const nftDynsetDelete = 2
