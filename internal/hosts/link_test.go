package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postern/internal/document"
	"postern/internal/document/documenttest"
	"postern/internal/key"
	"postern/internal/policy"
)

// TestLink: the form of links is a promise to clients of other versions.
func TestLink(t *testing.T) {
	home := New("home")
	home.Address, home.StepTimeout = "home.example", 3*time.Second // as in a link, whatever the default
	home.Knock = []policy.Port{{Protocol: policy.TCP, Number: 20914}, {Protocol: policy.UDP, Number: 7061}, {Protocol: policy.ICMP}}
	with := func(change func(*Host)) Host {
		h := home
		change(&h)
		return h
	}
	for _, c := range []struct {
		host Host
		link string
	}{
		{home, "postern://home.example:22/v2/name=home/knock=20914,7061:udp,icmp/check=aGu3sV/"},
		{with(func(h *Host) {
			h.Address, h.Service, h.StepTimeout = "2001:db8::1", policy.Port{Protocol: policy.UDP, Number: 51820}, 1500*time.Millisecond
		}), "postern://[2001:db8::1]:51820/v2/name=home/protocol=udp/step_timeout=1.5s/knock=20914,7061:udp,icmp/check=CWw3yv/"},
		{with(func(h *Host) { h.Close = []policy.Port{h.Knock[2], h.Knock[0]} }), "postern://home.example:22/v2/name=home/knock=20914,7061:udp,icmp/close=icmp,20914/check=a4Iksg/"},
		{with(func(h *Host) { h.Family = IPv4 }), "postern://home.example:22/v2/name=home/family=4/knock=20914,7061:udp,icmp/check=4LW076/"},
		{with(func(h *Host) { h.Address = "192.0.2.1" }), "postern://192.0.2.1:22/v2/name=home/knock=20914,7061:udp,icmp/check=Bwp0Ho/"},
		{keyed("home"), keyedLink},
		{func() Host {
			h := keyed("vpn")
			h.Address, h.Service, h.Family = "vpn.example", policy.Port{Protocol: policy.UDP, Number: 51820}, IPv6
			return h
		}(), "postern://vpn.example:51820/v2/name=vpn/protocol=udp/family=6/key=" + keyedText + "/token=40123/check=Kc4gna/"},
	} {
		link, f := c.host.Link()
		if f != nil || link != c.link {
			t.Errorf("got %q, %v, want %q", link, f, c.link)
		}
		if got, err := ParseLink(c.link); err != nil || !got.same(c.host) {
			t.Errorf("%s is %+v, %v", c.link, got, err)
		}
	}

	// The client's own settings are not in the link.
	own := with(func(h *Host) { h.User, h.Gap, h.Timeout = "ann", time.Second, time.Minute })
	if link, f := own.Link(); f != nil || link != "postern://home.example:22/v2/name=home/knock=20914,7061:udp,icmp/check=aGu3sV/" {
		t.Errorf("got %q, %v", link, f)
	}

	// Other forms of the same, written by hand.
	for _, link := range []string{
		"POSTERN://home.example/v1/name=home/knock=20914:tcp,7061:udp,icmp/",
		"postern://home.example:22/v1/protocol=tcp/step_timeout=3s/knock=20914,7061:udp,icmp/name=home/",
	} {
		if got, err := ParseLink(link); err != nil || !got.same(home) {
			t.Errorf("%s is %+v, %v", link, got, err)
		}
	}
	if got, err := ParseLink("postern://home.example/v1/name=vpn/knock=1/protocol=udp/"); err != nil || got.Service != (policy.Port{Protocol: policy.UDP, Number: 22}) {
		t.Errorf("%+v, %v", got, err)
	}

	for _, h := range []Host{with(func(h *Host) { h.Name = "" }), with(func(h *Host) { h.Address = "" }),
		with(func(h *Host) { h.Knock = nil }), with(func(h *Host) { h.Address = "fe80::1%eth0" }),
		with(func(h *Host) { h.Address = "fe80::1" })} {
		if link, f := h.Link(); f == nil {
			t.Errorf("%+v has the link %q", h, link)
		}
	}
}

// TestBadLinks parses a file of invalid links, one a line. The golden has the
// message for each.
func TestBadLinks(t *testing.T) {
	links := 0
	documenttest.Golden(t, "link", "links", "errors", func(t *testing.T, data []byte) string {
		var b strings.Builder
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSuffix(line, "\n")
			links++
			_, err := ParseLink(line)
			if err == nil {
				t.Errorf("this link is wrong, and was taken: %s", line)
				continue
			}
			f, ok := errors.AsType[*document.Fault](err)
			if !ok {
				fmt.Fprintf(&b, "%s\n", err)
				continue
			}
			if f.Hint == "" {
				t.Errorf("no hint: %v", f)
			}
			fmt.Fprintf(&b, "%s\nhint: %s\n", f.Message, f.Hint)
		}
		return b.String()
	})
	if links < 15 {
		t.Errorf("%d links, want at least 15", links)
	}
}

// TestLinkCutShort: a link that was cut short is never parsed as another one.
func TestLinkCutShort(t *testing.T) {
	for _, link := range []string{
		"postern://home.example:22/v1/name=home/family=4/step_timeout=5s/knock=20914,7061:udp,41230/",
		"postern://home.example:22/v2/name=home/knock=20914,7061:udp/close=41230,1/check=c2JyWU/",
		keyedLink,
	} {
		if _, err := ParseLink(link); err != nil {
			t.Fatal(err)
		}
		for i := range len(link) {
			if h, err := ParseLink(link[:i]); err == nil {
				t.Errorf("%q was taken as %+v", link[:i], h)
			}
		}
	}
}

// TestLinkMistyped: a link with a key that differs in a character, lacks one, has
// one twice, or has two exchanged, is an error. And the error does not have the key.
func TestLinkMistyped(t *testing.T) {
	wrong := func(text string) {
		t.Helper()
		h, err := ParseLink(text)
		if text == keyedLink {
			return
		}
		if err == nil {
			t.Errorf("%q was taken as %+v", text, h)
			return
		}
		for i := 0; i+16 < len(keyedText); i++ {
			if strings.Contains(err.Error(), keyedText[i:i+16]) {
				t.Errorf("%q: the error has a part of the key: %v", text, err)
			}
		}
	}
	for i := range len(keyedLink) {
		before, after := keyedLink[:i], keyedLink[i+1:]
		for _, c := range "aZ0-_/=,:. %" {
			wrong(before + string(c) + after)
			wrong(before + string(c) + keyedLink[i:])
		}
		wrong(before + after)
		if after != "" {
			wrong(before + after[:1] + keyedLink[i:i+1] + after[1:])
		}
	}
}

// TestNewerLink: whatever a later version has after its number, it is reported
// as newer.
func TestNewerLink(t *testing.T) {
	for _, link := range []string{"postern://home.example:22/v3/name=home/", "postern://x/v3", "postern:///v3/?#%", "postern://[/v3/" + strings.Repeat("x", 500),
		"postern://home/v18446744073709551616/"} {
		_, err := ParseLink(link)
		if newer, ok := errors.AsType[*NewerError](err); !ok {
			t.Errorf("%s: %v", link, err)
		} else if !strings.Contains(newer.Error(), "this link has version "+newer.Version+", but this postern reads versions 1 and 2") {
			t.Errorf("%s: %v", link, err)
		}
	}
}

// TestLinkRoundTrip: parsing a host's link returns the host.
func TestLinkRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := someHost().Draw(t, "host")
		h.Gap, h.Timeout, h.User = 0, DefaultTimeout, ""
		link, f := h.Link()
		if f != nil {
			t.Fatal(f)
		}
		if len(link) > MaxLink {
			t.Errorf("%d bytes", len(link))
		}
		got, err := ParseLink(link)
		if err != nil || !got.same(h) {
			t.Fatalf("%s is %+v, %v; want %+v", link, got, err, h)
		}
		if strings.ContainsAny(link, " \t\"'`$&|;<>()*?!#~{}\\^%") {
			t.Errorf("%s needs quotes in a shell", link)
		}
	})
}

// someHost draws any valid host.
func someHost() *rapid.Generator[Host] {
	return rapid.Custom(func(t *rapid.T) Host {
		h := New(rapid.StringMatching(`[A-Za-z0-9][-A-Za-z0-9_.]{0,63}`).Draw(t, "name"))
		h.Address = rapid.OneOf(
			rapid.StringMatching(`[a-z]([-a-z0-9_]{0,61}[a-z0-9])?(\.[a-z]([-a-z0-9]{0,10}[a-z0-9])?){0,4}\.?`),
			rapid.Map(rapid.SliceOfN(rapid.ByteRange(1, 200), 4, 4), func(b []byte) string { return netip.AddrFrom4([4]byte(b)).String() }),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 14, 14), func(b []byte) string {
				return netip.AddrFrom16([16]byte(append([]byte{0x20, 0x01}, b...))).String()
			}),
		).Filter(func(text string) bool { _, f := address(text); return f == nil }).Draw(t, "address")
		number := rapid.Uint16Range(1, 65535)
		protocol := rapid.SampledFrom([]policy.Protocol{policy.TCP, policy.UDP})
		h.Service = policy.Port{Protocol: protocol.Draw(t, "protocol"), Number: number.Draw(t, "port")}
		if rapid.Bool().Draw(t, "key") {
			bytes := func(n int, name string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name) }
			h.Key = &key.Credential{
				Site: key.Site(bytes(16, "site")), Device: key.Device(rapid.Uint64().Draw(t, "device")),
				Door: key.Door(rapid.Uint32().Draw(t, "door")), Secret: key.Secret(bytes(32, "secret")),
			}
			h.Token = number.Draw(t, "token")
		}
		for range rapid.IntRange(1, policy.MaxKnocks).Draw(t, "knocks") {
			if h.Key != nil {
				break
			}
			p := policy.Port{Protocol: policy.ICMP}
			if rapid.IntRange(0, 9).Draw(t, "ping") > 0 {
				p = policy.Port{Protocol: protocol.Draw(t, "protocol"), Number: number.Draw(t, "port")}
			}
			h.Knock = append(h.Knock, p)
			if rapid.Bool().Draw(t, "close") {
				h.Close = append(h.Close, p)
			}
		}
		if n := len(h.Close); slices.Equal(h.Knock[:n], h.Close) {
			h.Close = nil // knocks that open the door do not close it
		}
		ms := func(least, most int, name string) time.Duration {
			return time.Duration(rapid.IntRange(least, most).Draw(t, name)) * time.Millisecond
		}
		if h.Key == nil {
			h.StepTimeout = ms(100, 3_600_000, "step_timeout")
			h.Gap = ms(0, 90, "gap")
		}
		h.Timeout = ms(3000, 3_600_000, "timeout")
		if _, err := netip.ParseAddr(h.Address); err != nil {
			h.Family = rapid.SampledFrom([]Family{AnyFamily, IPv4, IPv6}).Draw(t, "family")
		}
		h.User = rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[a-z0-9_.@%+~#,:!*?^\[][-a-z0-9_.@é=]{0,20}`)).Draw(t, "user")
		return h
	})
}

// FuzzParseLink: a parsed link is a host whose own link parses to the same.
func FuzzParseLink(f *testing.F) {
	for _, data := range archived(f) {
		for line := range strings.Lines(string(data)) {
			if IsLink(line) {
				f.Add(strings.TrimSuffix(line, "\n"))
			}
		}
	}
	f.Add(keyedLink)
	f.Add("postern://home.example:22/v1/name=home/close=1,icmp/knock=20914,7061:udp/")
	f.Add("postern://[2001:db8::1]:51820/v1/name=home/protocol=udp/step_timeout=1.5s/knock=20914,7061:udp,icmp/")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParseLink(text)
		if err != nil {
			fault, _ := errors.AsType[*document.Fault](err)
			newer, _ := errors.AsType[*NewerError](err)
			if fault == nil && newer == nil {
				t.Fatalf("error is a %T", err)
			}
			return
		}
		soundHost(t, h)
		link, fault := h.Link()
		if fault != nil {
			t.Fatalf("%q is a link, and its host has none: %v", text, fault)
		}
		if again, err := ParseLink(link); err != nil || !again.same(h) {
			t.Errorf("%q is %+v, and its own link %q is %+v, %v", text, h, link, again, err)
		}
	})
}
