package cli

import (
	"bufio"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/hosts"
	"postern/internal/key"
	"postern/internal/keyfile"
	"postern/internal/lab"
	"postern/internal/packet"
)

const keyedSSH = `
version: 1
posture: closed
log: {target: none}
keys: {port: udp/40123}
users: {alice: {devices: [laptop]}}
doors:
  ssh: {service: tcp/22, knock: {key: [alice]}}
`

// newKeyed has sshd behind a door that alice's laptop has a key for, at both
// families. The client may send pings.
func newKeyed(t *testing.T) *hideout {
	t.Helper()
	h := newLogin(t)
	h.from.AddAddress("2001:db8::1/64")
	h.at.AddAddress("2001:db8::2/64")
	h.client.Sysctl("net.ipv4.ping_group_range", "0 0")
	var of *keyfile.Device
	var keys keyfile.File
	if _, err := keyfile.Change(keyfile.Path(h.path("policy.yaml")), func(f *keyfile.File) error {
		of, keys = f.Enroll("alice/laptop"), *f
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h.up(t, keyedSSH)
	for name, at := range map[string]netip.Addr{"four": h.at.Addr4(), "six": h.at.Addr6()} {
		entry := hosts.New(name)
		k := keys.Credential(of, "ssh")
		entry.Address, entry.Key, entry.Token = at.String(), &k, 40123
		link, fault := entry.Link()
		if fault != nil {
			t.Fatal(fault)
		}
		add := h.command(t, "postern", "add", "-", "--user", "root")
		add.Stdin = strings.NewReader(link)
		if got := h.finish(t, add); got.status != 0 {
			t.Fatalf("%+v", got)
		}
	}
	// A server accepts no token that was made in the first seconds after loading, as it
	// may have been used before: the next one is made a little ahead of its time.
	h.run(t, "mkdir", "-p", "cache/postern")
	for _, lane := range []key.Lane{key.Lane4, key.Lane6} {
		file := fmt.Sprintf("cache/postern/device-%v-%08x-%d", of.ID, uint32(key.DoorID("ssh")), lane)
		h.write(t, file, fmt.Sprint(time.Now().Add(key.DefaultWindow.Ahead).UnixNano()))
	}
	known := h.run(t, "sed", "s/^192.0.2.2/2001:db8::2/", "known_hosts")
	h.run(t, "sh", "-c", `printf %s "$0" >>known_hosts`, known)
	return h
}

// tokenIn returns the name of the envelope in which a packet carries a token.
func tokenIn(p *packet.Packet) string {
	switch {
	case len(p.Payload) != key.TokenSize:
		return ""
	case p.UDP != nil && p.UDP.DstPort == 40123:
		return "UDP"
	case p.ICMP != nil && (p.ICMP.Type == packet.EchoRequest || p.ICMP.Type == packet.EchoRequestV6):
		return "ping"
	case p.TCP != nil && p.TCP.DstPort == 40123:
		return "TCP"
	}
	return ""
}

// TestSSHByKey logs in by a token in each kind of packet, over either family. Each
// token opens once: sent again by whomever, it does not.
func TestSSHByKey(t *testing.T) {
	t.Parallel()
	h := newKeyed(t)
	capture, err := h.at.Capture(func(p *packet.Packet) bool { return tokenIn(p) != "" })
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	sender, err := h.from.Sender()
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	shut := func(at netip.Addr, why string) {
		t.Helper()
		conn, err := h.client.Dial(within(t, 300*time.Millisecond), "tcp", netip.AddrPortFrom(at, 22))
		if err == nil {
			conn.Close()
			t.Errorf("the door at %s is open: %s", at, why)
		}
	}
	var used [][]byte
	kinds := map[string]string{ // what drops each
		"UDP":  "udp dport 40123",
		"ping": "meta l4proto { icmp, ipv6-icmp } @th,0,8 { 8, 128 }", // echo requests
		"TCP":  "tcp dport 40123",
	}
	for _, by := range []string{"UDP", "ping", "TCP"} {
		// The client's own rules leave one kind.
		rules := "add table inet own; delete table inet own; add table inet own; add chain inet own out { type filter hook output priority 0; };"
		for kind, match := range kinds {
			if kind != by {
				rules += "add rule inet own out " + match + " drop;"
			}
		}
		if out, err := h.client.Command(t.Context(), "nft", rules).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for name, addresses := range map[string]struct{ own, at netip.Addr }{
			"four": {h.from.Addr4(), h.at.Addr4()}, "six": {h.from.Addr6(), h.at.Addr6()},
		} {
			got := h.runAtHome(t, "postern", "ssh", name, "echo $SSH_CONNECTION")
			if !strings.HasPrefix(got.out, addresses.own.String()+" ") {
				t.Errorf("%s by %s: %+v", name, by, got)
			}
			shut(addresses.at, "a token opens once")
			sent, err := capture.Drain()
			if err != nil {
				t.Fatal(err)
			}
			if len(sent) == 0 || slices.ContainsFunc(sent, func(c lab.Captured) bool { return tokenIn(c.Packet) != by }) {
				t.Errorf("%s by %s: %d tokens, or others", name, by, len(sent))
			}
			for _, c := range sent {
				used = append(used, slices.Clone(c.Raw))
			}
			// The very packets once more, all that there ever were.
			if _, err := sender.Send(used...); err != nil {
				t.Fatal(err)
			}
			h.lab.Settle()
			if again, err := capture.Drain(); err != nil || len(again) != len(used) {
				t.Errorf("%d of %d tokens came again, %v", len(again), len(used), err)
			}
			shut(addresses.at, "replayed")
		}
	}
}

// TestConnectByKeyAtOnce: openings at the same moment all come through, though each
// grant is good for one.
func TestConnectByKeyAtOnce(t *testing.T) {
	t.Parallel()
	h := newKeyed(t)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			got := h.finish(t, h.command(t, "postern", "connect", []string{"four", "six"}[i%2]))
			if !strings.HasPrefix(got.out, "SSH-2.0-") || got.status != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
	f := h.forward(t, "six", "0")
	for range 6 {
		all.Go(func() {
			if line, err := bufio.NewReader(f.dial(t)).ReadString('\n'); !strings.HasPrefix(line, "SSH-2.0-") {
				t.Errorf("through forward: %q, %v", line, err)
			}
		})
	}
	all.Wait()
}
