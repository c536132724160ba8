package knocker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/client/knocker"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/nftables"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// hideByKey runs a policy with one door, `tcp/22`, that alice's laptop opens with the
// key.
func hideByKey(t *testing.T, client, server *lab.Host, to netip.Addr, rest string) *hideout {
	t.Helper()
	if err := bpf.Probe(); err != nil {
		t.Skip(err) // an old kernel, or no root of the machine
	}
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	h := serveKey(t, client, server, to, nftables.Backend{}, rest)
	comeOfAge(t, cache, h.door.Key.Credential)
	return h
}

// serveKey does the same by a backend, and leaves the client as it is.
func serveKey(t *testing.T, client, server *lab.Host, to netip.Addr, b firewall.Backend, rest string) *hideout {
	t.Helper()
	k := newKey()
	m := labtest.Compile(t, b, fmt.Sprintf(`version: 1
posture: closed
log: {target: none}
keys: {port: udp/%d}
users: {alice: {devices: [laptop]}}
doors:
  ssh: {service: tcp/22, knock: {key: [alice]}}
%s`, tokenPort, rest))
	m.Keys = func() (automaton.Keyring, error) {
		return automaton.Keyring{Site: k.Site, Devices: map[string]automaton.DeviceKey{m.Tokens[0].Name(): {ID: k.Device, Secret: k.Secret}}}, nil
	}
	labtest.Apply(t, server, b, m)
	labtest.Serve(t, server, "tcp", ":22", func(conn net.Conn) { io.WriteString(conn, greeting) })
	return &hideout{client: client, door: knocker.Door{Ways: []knocker.Way{way(to)}, Key: k}}
}

// comeOfAge has the next token of a credential be accepted by a server that has just been
// loaded: one made in its first seconds is not, as it might have been used before.
func comeOfAge(t *testing.T, cache string, of key.Credential) {
	t.Helper()
	folder := filepath.Join(cache, "postern")
	last := time.Now().Add(key.DefaultWindow.Ahead).UnixNano()
	failed := os.MkdirAll(folder, 0o700)
	for _, lane := range []key.Lane{key.Lane4, key.Lane6} {
		file := fmt.Sprintf("device-%v-%08x-%d", of.Device, uint32(of.Door), lane)
		failed = errors.Join(failed, os.WriteFile(filepath.Join(folder, file), fmt.Append(nil, last), 0o600))
	}
	if failed != nil {
		t.Fatal(failed)
	}
}

// TestOpenByKey comes in at the first try, and leaves its grant used up.
func TestOpenByKey(t *testing.T) {
	for _, network := range []string{"203.0.113.0/24", "2001:db8::/64", "192.168.0.0/24", "fd00::/64"} {
		for _, cover := range []string{"drop", "reset"} {
			t.Run(network+" "+cover, func(t *testing.T) {
				l := lab.NewT(t)
				client, server := l.Host("client"), l.Host("server")
				_, gate := l.Connect(client, server, network)
				h := hideByKey(t, client, server, address(gate), "cover: "+cover+"\n")
				for range 3 {
					if tries, err := h.open(t.Context()); err != nil || tries != 1 {
						t.Errorf("%d tries, %v; want one that comes in", tries, err)
					}
				}
				if conn, err := client.Dial(labtest.Within(t, 200*time.Millisecond), "tcp", h.door.Ways[0].Service); err == nil {
					conn.Close()
					t.Error("the door is open, and nobody has sent a token since")
				}
			})
		}
	}
}

// byTags has tags verify tokens.
type byTags struct{ nftables.Backend }

func (b byTags) Apply(m *automaton.Machine) error {
	return labtest.WithoutBPF(func() error { return b.Backend.Apply(m) })
}

// TestOpenByTags: a server that knows some tokens only, and those from some seconds after
// its start, gets one of them, from behind NAT or not, and in the kind of packet that comes
// through.
func TestOpenByTags(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var all sync.WaitGroup
	for _, test := range []struct{ network, drop string }{
		{"192.168.0.0/24", ""}, {"fd00::/64", ""}, {"203.0.113.0/24", ""}, {"2001:db8::/64", ""},
		{"192.168.1.0/24", "meta l4proto udp drop"},
		{"fd00:1::/64", "meta l4proto udp drop; icmpv6 type echo-request drop"},
	} {
		l := lab.NewT(t)
		client, server := l.Host("client"), l.Host("server")
		uplink, gate := l.Connect(client, server, test.network)
		client.Sysctl("net.ipv4.ping_group_range", "0 0")
		lost := client.Command(t.Context(), "nft", "table netdev x { chain c { type filter hook egress device "+uplink.Name+" priority 0; "+test.drop+"\n}; }")
		if out, err := lost.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		h := serveKey(t, client, server, address(gate), byTags{}, "")
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := h.open(ctx); err != nil {
				t.Errorf("%s: %v", test.network, err)
			}
		})
	}
	all.Wait()
}

// TestOpenByKeyEnvelopes comes in by each kind of packet.
func TestOpenByKeyEnvelopes(t *testing.T) {
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, gate := l.Connect(client, server, "203.0.113.0/24", "2001:db8::/64")
	client.Sysctl("net.ipv4.ping_group_range", "0 0")
	h := hideByKey(t, client, server, gate.Addr4(), "")
	for _, step := range []struct {
		drop string
		want knocker.Envelope
	}{
		{"", knocker.Datagram},
		{"meta l4proto udp drop", knocker.Echo},
		{"icmp type echo-request drop; icmpv6 type echo-request drop", knocker.SYNData},
	} {
		if step.drop != "" {
			rules(t, client, "output", step.drop)
		}
		for _, to := range []netip.Addr{gate.Addr4(), gate.Addr6()} {
			h.door.Ways = []knocker.Way{way(to)}
			err := client.Do(func() error {
				return labtest.Without(func() error {
					conn, err := knocker.Open(labtest.Soon(t), h.door, func(try knocker.Try) {
						// Linux does not say that its own rules drop a ping of IPv6: that
						// one shows by its silence.
						if try.Err == nil && try.By.Envelope != step.want {
							t.Errorf("%s: by %s; want %s", to, try.By, step.want)
						}
					})
					if err == nil {
						conn.Close()
					}
					return err
				})
			})
			if err != nil {
				t.Errorf("%s by %s: %v", to, step.want, err)
			}
		}
	}
}

// TestOpenByKeyTranslated: where the server sees another address than the client's global
// one, a token that is not bound to it comes in at the second try, and the next time at
// the first. SendToken sends one of each.
func TestOpenByKeyTranslated(t *testing.T) {
	for _, networks := range [][2]string{{"203.0.113.0/24", "198.51.100.0/24"}, {"2001:db8::/64", "2001:db8:1::/64"}} {
		t.Run(networks[0], func(t *testing.T) {
			l := lab.NewT(t)
			client, router, server := l.Host("client"), l.Host("router"), l.Host("server")
			_, inside := l.Connect(client, router, networks[0])
			_, gate := l.Connect(router, server, networks[1])
			family, anywhere := "ipv4.ip_forward", "0.0.0.0/0"
			if inside.Addr6().IsValid() {
				family, anywhere = "ipv6.conf.all.forwarding", "::/0"
			}
			router.Sysctl("net."+family, "1")
			client.Route(anywhere, address(inside))
			if out, err := router.Command(t.Context(), "nft", `add table inet x
				add chain inet x c { type nat hook postrouting priority 100; }
				add rule inet x c masquerade`).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			client.Sysctl("net.ipv4.ping_group_range", "0 0")
			h := hideByKey(t, client, server, address(gate), "")
			for _, want := range []int{2, 1} {
				if tries, err := h.open(t.Context()); err != nil || tries != want {
					t.Errorf("%d tries, %v; want %d", tries, err, want)
				}
			}
			err := client.Do(func() error {
				_, err := knocker.SendToken(address(gate), h.door.Key, 0)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := client.Dial(labtest.Soon(t), "tcp", h.door.Ways[0].Service)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		})
	}
}

// TestOpenByKeyAtOnce: of openings at one moment some find that another has used the
// grant of their token. They come in all the same.
func TestOpenByKeyAtOnce(t *testing.T) {
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, gate := l.Connect(client, server, "192.0.2.0/24")
	h := hideByKey(t, client, server, address(gate), "")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := h.open(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
