package watchdog

import (
	"encoding/binary"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/lab"
)

// TestNotices: what nft does is heard, by its name, with the program's.
func TestNotices(t *testing.T) {
	h := lab.NewT(t).Host("host")
	var n *notices
	if err := h.Do(func() (err error) { n, err = listen(); return err }); err != nil {
		t.Fatal(err)
	}
	defer n.close()
	var all []firewall.Notice
	hear := func(command ...string) heard {
		t.Helper()
		if out, err := h.Command(t.Context(), "nft", command...).CombinedOutput(); err != nil {
			t.Fatalf("nft %q: %v\n%s", command, err, out)
		}
		all = nil
		<-n.readable
		return n.read(someNotices, func(one firewall.Notice) bool {
			if one.Sender == 0 {
				t.Errorf("nobody sent %+v", one)
			}
			one.Sender = 0
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
			return one.Table == "inet ours"
		})
	}
	by := regexp.MustCompile(`^nft \(process [0-9]+\)$`)
	for _, test := range []struct {
		command []string
		gone    bool
		want    []firewall.Notice
	}{
		{[]string{"add", "table", "inet", "ours"}, false, []firewall.Notice{{Table: "inet ours"}}},
		{[]string{"add", "chain", "inet", "ours", "one"}, false, []firewall.Notice{{Table: "inet ours", Chain: "one"}}},
		{[]string{"add", "rule", "inet", "ours", "one", "accept"}, false, []firewall.Notice{{Table: "inet ours", Chain: "one"}}},
		{[]string{"add", "set", "inet", "ours", "s", "{ type mark; }"}, false, []firewall.Notice{{Table: "inet ours"}}},
		{[]string{"add", "element", "inet", "ours", "s", "{ 1 }"}, false, []firewall.Notice{{Table: "inet ours", Set: "s"}}},
		{[]string{"add", "counter", "inet", "ours", "c"}, false, []firewall.Notice{{Table: "inet ours"}}},
		{[]string{"flush", "ruleset"}, true, []firewall.Notice{
			{Table: "inet ours", Chain: "one"}, {Table: "inet ours"}, {Table: "inet ours", Gone: true},
		}},
	} {
		h := hear(test.command...)
		if !h.hit || h.gone != test.gone || h.lost || !by.MatchString(h.by) {
			t.Errorf("nft %q: %+v", test.command, h)
		}
		byText := func(a, b firewall.Notice) int { return len(a.Chain+a.Set) - len(b.Chain+b.Set) }
		slices.SortStableFunc(all, byText)
		slices.SortStableFunc(test.want, byText)
		if d := cmp.Diff(test.want, all); d != "" {
			t.Errorf("nft %q (-want +got):\n%s", test.command, d)
		}
	}
	if h := hear("add", "table", "ip", "others"); h.hit || h.by != "" {
		t.Errorf("another's table: %+v", h)
	}
}

// message is a netlink message of nf_tables with string attributes.
func message(kind uint16, family byte, attributes ...string) []byte {
	data := []byte{family, 0, 0, 0}
	for i, text := range attributes {
		data = binary.NativeEndian.AppendUint16(data, uint16(4+len(text)))
		data = binary.NativeEndian.AppendUint16(data, uint16(i+1))
		data = append(data, text...)
		for len(data)%4 != 0 {
			data = append(data, 0)
		}
	}
	head := binary.NativeEndian.AppendUint32(nil, uint32(16+len(data)))
	head = binary.NativeEndian.AppendUint16(head, unix.NFNL_SUBSYS_NFTABLES<<8|kind)
	head = append(head, make([]byte, 10)...)
	return append(head, data...)
}

// FuzzNotices: no datagram makes the parser read beyond it.
func FuzzNotices(f *testing.F) {
	f.Add(message(unix.NFT_MSG_NEWRULE, unix.NFPROTO_INET, "ours\x00", "one\x00"))
	f.Add(append(message(unix.NFT_MSG_DELTABLE, unix.NFPROTO_IPV4, "filter\x00"), message(unix.NFT_MSG_NEWGEN, 0, "\x00\x00\x00\x01", "\x00\x00\x00\x02", "nft\x00")...))
	f.Add([]byte{20, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var h heard
		open := false
		h.parse(data, &open, func(n firewall.Notice) bool { return true })
		if h.gone && !h.hit {
			t.Errorf("%+v", h)
		}
	})
}

// BenchmarkOthers is what a notice of another's table costs.
func BenchmarkOthers(b *testing.B) {
	data := message(unix.NFT_MSG_NEWRULE, unix.NFPROTO_IPV4, "nat\x00", "DOCKER\x00")
	var h heard
	open := false
	for b.Loop() {
		h.parse(data, &open, func(n firewall.Notice) bool { return n.Table == "inet postern" })
	}
}
