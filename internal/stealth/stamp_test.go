//go:build linux

package stealth

import (
	"encoding/binary"
	"testing"
	"time"

	"postern/internal/firewall/backends"
	"postern/internal/packet"
	"postern/internal/policy"
)

// A host that gets a packet with the IP option timestamps writes into it the milliseconds
// since midnight (ip_options_compile in net/ipv4/ip_options.c), and leaves the header's
// checksum as it was. nft's reject sums up the packet from the IP header on, whose own sum
// should be zero (nf_ip_checksum in net/netfilter/utils.c). So it takes the packet for a
// broken one and does not answer, unless connection tracking has looked at its checksum
// before; it does not see a SYN that is refused. In one of 65,535 ms what the host wrote
// adds up to zero. Then there is an answer, whatever the port.

// isStamped reports whether a packet has the option.
func isStamped(p *packet.Packet) bool {
	return len(p.V4.Options) > 0 && p.V4.Options[0] == timestamps
}

// untilSteady returns how long to wait so that no such answer comes soon.
func untilSteady(now time.Time) time.Duration {
	const (
		every  = 0xffff
		at     = every - 4<<8 // the pointer in the option, the upper half of a word, becomes greater by 4
		margin = 1000
	)
	if left := (at - now.UnixMilli()%(24*60*60*1000)%every + every) % every; left <= margin {
		return time.Duration(left+1) * time.Millisecond
	}
	return 0
}

// TestStampsAddUp: a SYN with timestamps whose checksum is wrong by what the host writes at
// one moment is answered at that moment, and at no other; and untilSteady waits for that of
// the right checksum.
func TestStampsAddUp(t *testing.T) {
	var odd time.Time
	for now, end := time.UnixMilli(0), time.UnixMilli(0xffff); now.Before(end); now = now.Add(time.Millisecond) {
		if ms := uint32(now.UnixMilli()); (4<<8+ms>>16+ms&0xffff)%0xffff == 0 {
			odd = now
		}
	}
	for before, want := range map[time.Duration]time.Duration{0: 1, 1: 2, 999: 1000, 1000: 1001, 1001: 0, 9999: 0, -1: 0} {
		if got := untilSteady(odd.Add(-before * time.Millisecond)); got != want*time.Millisecond {
			t.Errorf("%d ms before the moment: wait %v, want %d ms", before, got, want)
		}
	}

	n := newNetwork(t, cover{policy.Closed, policy.CoverUnreachable, backends.Default()}, usual)
	e := n.examiner(t, n.fromScanner, n.fromFriend)
	w := ways(n.fromScanner)[0]
	for _, port := range comparedTCP {
		answered := 0
		for try := 0; answered == 0; try++ {
			if try == 50 {
				t.Fatalf("port %d never answers", port)
			}
			// One for each of the next milliseconds, sent together.
			var all []recipe
			for k := range int64(10) {
				at := (time.Now().UnixMilli() + k) % (24 * 60 * 60 * 1000)
				all = append(all, recipe{name: time.UnixMilli(at).String(), only: onlyV4, change: func(p *packet.Packet) {
					p.V4.Options = []byte{timestamps, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0}
					spoil(p, binary.BigEndian.AppendUint32([]byte{4, 0}, uint32(at)))
				}})
			}
			for _, shapes := range e.examine(t, w, all, packet.ProtocolTCP, port) {
				answered += len(shapes)
			}
		}
		if answered == 10 {
			t.Errorf("port %d answers at any time", port)
		}
	}
}
