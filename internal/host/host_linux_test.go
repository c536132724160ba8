package host_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/host"
	"postern/internal/lab"
	"postern/internal/policy"
)

// TestMain plays the program that is asked how its caller came in, when it is called so.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "wayin" {
		printWayIn()
		return
	}
	lab.Main(m.Run)
}

func TestListening(t *testing.T) {
	l := lab.NewT(t)
	server, client := l.Host("server"), l.Host("client")
	l.Connect(server, client, "192.0.2.0/24")
	for _, address := range []string{":80", "192.0.2.1:22", "127.0.0.1:631", "0.0.0.0:8080"} {
		ln, err := server.Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	for _, address := range []string{":53", "127.0.0.1:323", ":40000"} {
		c, err := server.ListenPacket(t.Context(), "udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// A connection is no listener.
	conn, err := client.Dial(t.Context(), "tcp", netip.MustParseAddrPort("192.0.2.1:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var got []string
	err = server.Do(func() error {
		ports, err := host.Listening()
		for _, p := range ports {
			got = append(got, p.String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"tcp/22", "tcp/80", "tcp/8080", "udp/53"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReceiving(t *testing.T) {
	l := lab.NewT(t)
	server, client := l.Host("server"), l.Host("client")
	l.Connect(server, client, "192.0.2.0/24")
	for _, address := range []string{":53", "127.0.0.1:323", "[::1]:324", "192.0.2.1:51820"} {
		c, err := server.ListenPacket(t.Context(), "udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	conn, err := server.Dial(t.Context(), "udp", netip.MustParseAddrPort("192.0.2.2:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A tunnel's socket is the kernel's own.
	for _, args := range [][]string{
		{"link", "add", "tunnel", "type", "vxlan", "id", "5", "dstport", "4789", "dev", "client"},
		{"link", "set", "tunnel", "up"},
	} {
		if out, err := server.Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	got := map[string]bool{}
	if err := server.Do(func() error {
		all, err := host.Receiving()
		for _, r := range all {
			got[strings.TrimSpace(fmt.Sprint(r.Local, " ", r.Interface))] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"[::]:53": true, "192.0.2.1:51820": true, "0.0.0.0:4789": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAccepting(t *testing.T) {
	l := lab.NewT(t)
	server, client := l.Host("server"), l.Host("client")
	l.Connect(server, client, "192.0.2.0/24", "2001:db8::/64")
	for _, address := range []string{":80", "192.0.2.1:22", "[2001:db8::1]:23", "127.0.0.1:631", "[::1]:632"} {
		ln, err := server.Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	conn, err := client.Dial(t.Context(), "tcp", netip.MustParseAddrPort("192.0.2.1:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := map[string]bool{}
	if err := server.Do(func() error {
		all, err := host.Accepting()
		for _, r := range all {
			got[strings.TrimSpace(fmt.Sprint(r.Local, " ", r.Interface))] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"[::]:80": true, "192.0.2.1:22": true, "[2001:db8::1]:23": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRawProtocols(t *testing.T) {
	h := lab.NewT(t).Host("host")
	protocols := func() (all []policy.Protocol) {
		t.Helper()
		if err := h.Do(func() (err error) {
			all, err = host.RawProtocols()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := protocols(); len(got) > 0 {
		t.Errorf("nobody has a raw socket: got %v", got)
	}
	for _, network := range []string{"ip4:89", "ip6:89", "ip4:112", "ip6:253", "ip4:1", "ip6:58", "ip4:17", "ip4:2", "ip4:255"} {
		c, err := h.ListenPacket(t.Context(), network, "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if diff := cmp.Diff([]policy.Protocol{policy.OSPF, policy.VRRP, 253}, protocols()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTunnelsAreAsked: the kernel answers, whatever tunnels it can make.
func TestTunnelsAreAsked(t *testing.T) {
	h := lab.NewT(t).Host("host")
	if err := h.Do(func() error {
		tunnels, err := host.Tunnels()
		if err == nil && len(tunnels) > 0 {
			return fmt.Errorf("there is none: got %v", tunnels)
		}
		if _, err := host.IPsec(); err != nil {
			return err
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.Command(t.Context(), "ip", "tunnel", "add", "gre1", "mode", "gre", "local", "192.0.2.1", "remote", "198.51.100.7").Run(); err != nil {
		t.Skip("this kernel has no GRE")
	}
	h.Command(t.Context(), "ip", "link", "set", "gre1", "up").Run()
	if err := h.Do(func() error {
		tunnels, err := host.Tunnels()
		if err == nil && (len(tunnels) != 1 || tunnels[0].Protocol != policy.GRE || tunnels[0].Remote != netip.MustParseAddr("198.51.100.7")) {
			return fmt.Errorf("got %+v", tunnels)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestForwarding(t *testing.T) {
	l := lab.NewT(t)
	gw := l.Host("gw")
	ask := func() string {
		var text string
		if err := gw.Do(func() error {
			for _, a := range []string{"10.0.0.1", "2001:db8::1"} {
				missing, ok := host.Forwarding(netip.MustParseAddr(a))
				text += fmt.Sprint(ok, " ", missing.Name, ";")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got, want := ask(), "false net.ipv4.ip_forward;false net.ipv6.conf.all.forwarding;"; got != want {
		t.Errorf("off: got %q, want %q", got, want)
	}
	gw.Sysctl("net.ipv6.conf.all.forwarding", "1")
	if got, want := ask(), "false net.ipv4.ip_forward;true net.ipv6.conf.all.forwarding;"; got != want {
		t.Errorf("IPv6 on: got %q, want %q", got, want)
	}
	gw.Sysctl("net.ipv4.ip_forward", "1")
	if got, want := ask(), "true net.ipv4.ip_forward;true net.ipv6.conf.all.forwarding;"; got != want {
		t.Errorf("both on: got %q, want %q", got, want)
	}
}

func TestInterface(t *testing.T) {
	l := lab.NewT(t)
	server, client := l.Host("server"), l.Host("client")
	l.Connect(server, client, "192.0.2.0/24", "2001:db8::/64")
	if out, err := server.Command(t.Context(), "ip", "route", "add", "local", "198.51.100.0/24", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, test := range []struct{ address, want string }{
		{"192.0.2.1", "client true"},
		{"2001:db8::1", "client true"},
		{"127.0.0.1", "lo true"},
		{"198.51.100.7", " true"},
		{"192.0.2.2", " false"},
		{"203.0.113.1", " false"},
		{"2001:db8:1::1", " false"},
	} {
		got := ""
		if err := server.Do(func() error {
			name, here := host.Interface(netip.MustParseAddr(test.address))
			got = fmt.Sprint(name, " ", here)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.address, got, test.want)
		}
	}
}
