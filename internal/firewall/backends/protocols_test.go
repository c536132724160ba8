//go:build linux && !(386 || arm || mips || mipsle)

package backends_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"postern/internal/firewall/backends"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// TestProtocols: every backend lets in the protocols without ports that allow names,
// and no other, over both families. A raw socket on the gateway says which came in.
func TestProtocols(t *testing.T) {
	named := []policy.Protocol{
		policy.OSPF, policy.EIGRP, policy.PIM, policy.VRRP, policy.IPIP, policy.SIT, policy.GRE,
		policy.ESP, policy.SCTP, 33, 136, 253,
	}
	const other policy.Protocol = 254
	for _, b := range backends.All() {
		t.Run(b.Name(), func(t *testing.T) {
			s := labtest.NewScene(t, b)
			var allow []string
			for _, p := range named {
				allow = append(allow, fmt.Sprintf("{service: %s}", p))
			}
			const form = "version: 1\nposture: closed\n%slog: {target: none}\n" +
				"doors: {ssh: {service: tcp/22, knock: {sequence: [7001, 7002]}}}\n"
			s.Up(fmt.Sprintf(form, ""))
			for _, f := range labtest.Families {
				for _, p := range named {
					if receives(t, s, f, p) {
						t.Errorf("nothing is allowed, and %s over %s comes in", p, f)
					}
				}
			}
			s.Up(fmt.Sprintf(form, "allow: ["+strings.Join(allow, ", ")+"]\n"))
			for _, f := range labtest.Families {
				for _, p := range named {
					if !receives(t, s, f, p) {
						t.Errorf("%s over %s is allowed, and does not come in", p, f)
					}
				}
				if receives(t, s, f, other) {
					t.Errorf("%s over %s is not allowed, and comes in", other, f)
				}
			}
			// What the rules are is told from how they are listed, where iptables knows
			// protocols by name, too.
			if status := s.Inspect(); status.Altered {
				t.Error("its own rules look modified to it")
			}
		})
	}
}

// receives reports whether a packet of a protocol gets in.
func receives(t *testing.T, s *labtest.Scene, f labtest.Family, p policy.Protocol) bool {
	t.Helper()
	admitted, err := s.Gateway.Admitted(packet.Protocol(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer admitted.Close()
	payload := make([]byte, 40)
	if p == policy.SCTP {
		payload = sctpInit()
	}
	from := s.NewAddress(f)
	s.Send(&packet.Packet{Src: from, Dst: labtest.On(s.Gate, f), Protocol: packet.Protocol(p), Payload: payload})
	s.Settled()
	all, err := admitted.Drain()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(c lab.Captured) bool { return c.Src == from })
}

// sctpInit returns an SCTP packet that begins an association (RFC 9260, 3.3.2).
// Connection tracking calls anything else invalid.
func sctpInit() []byte {
	b := []byte{0x04, 0x00, 0x0b, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0} // ports, tag, checksum
	b = append(b, 1, 0, 0, 20)                                  // INIT
	b = append(b, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
