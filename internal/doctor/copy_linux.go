//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/host"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// mostLinks bounds how many interfaces are copied. Hosts with more have them for
// containers.
const mostLinks = 64

// A replica is this host, built again, and what is outside of it.
type replica struct {
	*lab.Lab
	host, outside *lab.Host
	links         []copiedLink
	in            *lab.Capture // datagrams that reach the copy's sockets
	listening     []policy.Port
	missing       []string // what could not be copied
}

// A copiedLink is an interface with addresses, and who is at its other end.
type copiedLink struct {
	name      string
	addresses []netip.Addr
	far       *lab.Link
	number    int
	leads     bool // to a host that a door is forwarded to
	sender    *lab.Sender
	wire      *lab.Capture
}

// build makes the copy of the host that the calling thread's network namespace is.
func (c *replica) build(ctx context.Context, m *automaton.Machine, b firewall.Backend) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("listing the interfaces: %w", err)
	}
	c.host, c.outside = c.Host("copy"), c.Host("outside")
	// Nobody finishes a connection to the copy.
	c.host.Sysctl("net.ipv4.tcp_synack_retries", "0")
	// Which of many probes get an ICMP error would be chance.
	c.host.Sysctl("net.ipv4.icmp_ratelimit", "0")
	c.host.Sysctl("net.ipv6.icmp.ratelimit", "0")
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		if len(c.links) == mostLinks {
			c.missing = append(c.missing, fmt.Sprintf("interfaces beyond the first %d", mostLinks))
			break
		}
		c.addLink(l)
	}
	if err := c.Err(); err != nil {
		return err
	}
	forwards := c.forwards(m)
	for i := range c.links {
		if err := c.plug(&c.links[i]); err != nil {
			return err
		}
	}
	for to, l := range forwards {
		if err := c.route(l, to); err != nil {
			return err
		}
	}
	for _, setting := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if number(strings.ReplaceAll(setting, ".", "/")) > 0 {
			c.host.Sysctl(setting, "1")
		}
	}
	if c.in, err = c.host.Admitted(packet.ProtocolUDP, nil); err != nil {
		return err
	}
	c.replay(ctx)
	c.listen(ctx, m)
	if err := c.host.Do(func() error { return load(m, b) }); err != nil {
		return fmt.Errorf("loading the policy: %w", err)
	}
	return c.Err()
}

// load loads the policy in place of what Postern runs here by either backend: iptables
// prints its rules with those of others.
func load(m *automaton.Machine, b firewall.Backend) error {
	t, err := backends.Look(backends.All()).TakeOver(b)
	if err != nil {
		return err
	}
	_, err = t.Apply(m)
	return err
}

// forwards returns the hosts that doors are forwarded to, and the links to them.
func (c *replica) forwards(m *automaton.Machine) map[netip.Addr]*copiedLink {
	all := map[netip.Addr]*copiedLink{}
	for i := range m.Services {
		to := m.Services[i].Forward.Addr()
		if !to.IsValid() {
			continue
		}
		name := host.Towards(to)
		at := slices.IndexFunc(c.links, func(l copiedLink) bool { return l.name == name })
		if at < 0 {
			c.missing = append(c.missing, "the way to "+to.String())
			continue
		}
		c.links[at].leads = true
		all[to] = &c.links[at]
	}
	return all
}

// addLink lays a cable for an interface. Its addresses are added if it is up and
// packets arrive under its name.
func (c *replica) addLink(l netlink.Link) {
	at := l.Attrs()
	link := copiedLink{name: at.Name, number: len(c.links)}
	near, far := c.ConnectAs(c.host, c.outside, at.Name, "far"+strconv.Itoa(link.number))
	link.far = far
	c.links = append(c.links, link)
	if at.Flags&net.FlagUp == 0 || at.MasterIndex != 0 {
		return
	}
	addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return
	}
	for _, a := range addresses {
		own, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if own = own.Unmap(); ok && own.IsGlobalUnicast() {
			near.AddAddress(netip.PrefixFrom(own, ones).String())
			c.links[link.number].addresses = append(c.links[link.number].addresses, own)
		}
	}
}

// plug makes a link usable without neighbours, and opens it for raw packets.
func (c *replica) plug(l *copiedLink) error {
	if len(l.addresses) == 0 && !l.leads {
		return nil
	}
	err := c.host.Do(func() error {
		link, err := netlink.LinkByName(l.name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetARPOff(link); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("connecting %s: %w", l.name, err)
	}
	for _, network := range l.strangers() {
		if err := c.routeTo(l, network); err != nil {
			return err
		}
	}
	if l.sender, err = l.far.Sender(); err != nil {
		return err
	}
	l.wire, err = l.far.Capture(func(p *packet.Packet) bool { return true })
	return err
}

// route has the copy send what is for an address by a link.
func (c *replica) route(l *copiedLink, to netip.Addr) error {
	return c.routeTo(l, netip.PrefixFrom(to, to.BitLen()))
}

func (c *replica) routeTo(l *copiedLink, to netip.Prefix) error {
	return c.host.Do(func() error {
		link, err := netlink.LinkByName(l.name)
		if err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{
			IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen()),
		}}
		if to.Addr().Is4() {
			route.Scope = unix.RT_SCOPE_LINK
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("a route to %s by %s: %w", to, l.name, err)
		}
		return nil
	})
}

// strangers returns the networks from which a link is scanned. They are for benchmarks
// (RFC 2544) and for documents (RFC 9637), and no real host is in them.
func (l *copiedLink) strangers() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(l.number), 0}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x3f, 0xff, 0, byte(l.number)}), 32),
	}
}

// listen has the copy listen where this host does, and where doors lead. A program that
// a door is for may not run now.
func (c *replica) listen(ctx context.Context, m *automaton.Machine) {
	tcp, _ := host.Accepting()
	udp, _ := host.Receiving()
	for protocol, all := range map[policy.Protocol][]host.Receiver{policy.TCP: tcp, policy.UDP: udp} {
		for _, r := range all {
			c.listening = append(c.listening, policy.Port{Protocol: protocol, Number: r.Local.Port()})
		}
	}
	for i := range m.Services {
		s := &m.Services[i]
		if s.Forward.IsValid() {
			continue
		}
		at := host.Receiver{Local: netip.AddrPortFrom(netip.IPv6Unspecified(), s.Port.Number)}
		if s.Port.Protocol == policy.TCP {
			tcp = append(tcp, at)
		} else {
			udp = append(udp, at)
		}
	}
	for _, r := range tcp {
		if ln, err := c.host.Listen(ctx, "tcp", r.Local.String()); err == nil {
			c.OnClose(ln.Close)
		}
	}
	for _, r := range udp {
		if conn, err := c.host.ListenPacket(ctx, "udp", r.Local.String()); err == nil {
			c.OnClose(conn.Close)
		}
	}
}

// replay loads the rules of other programs, as their own tools print them.
func (c *replica) replay(ctx context.Context) {
	run := func(name string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, replayTime)
		defer cancel()
		return output(ctx, name, args...)
	}
	load := func(text, what, name string, args ...string) {
		ctx, cancel := context.WithTimeout(ctx, replayTime)
		defer cancel()
		cmd := c.host.Command(ctx, name, args...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			c.missing = append(c.missing, fmt.Sprintf("%s (%s: %v %s)", what, name, err, first))
		}
	}
	tables, err := run("nft", "list", "tables")
	if err != nil {
		c.missing = append(c.missing, "rules of others, which \"nft list tables\" does not print")
	}
	byIptables := map[string]bool{}
	for line := range strings.Lines(tables) {
		words := strings.Fields(line)
		if len(words) != 3 || words[1] == "inet" && words[2] == "postern" {
			continue
		}
		text, err := run("nft", "list", "table", words[1], words[2])
		switch {
		case err != nil:
			c.missing = append(c.missing, fmt.Sprintf("table %s %s", words[1], words[2]))
		case strings.Contains(text, "managed by iptables") || strings.Contains(text, "xt match") || strings.Contains(text, "xt target"):
			byIptables[words[1]] = true
		default:
			load(text, fmt.Sprintf("table %s %s", words[1], words[2]), "nft", "-f", "-")
		}
	}
	for _, family := range []struct{ table, program, legacy string }{
		{"ip", "iptables", "/proc/thread-self/net/ip_tables_names"}, {"ip6", "ip6tables", "/proc/thread-self/net/ip6_tables_names"},
	} {
		variants := map[string]bool{"nft": byIptables[family.table]}
		if names, err := os.ReadFile(family.legacy); err == nil && len(names) > 0 {
			variants["legacy"] = true
		}
		for variant, used := range variants {
			if !used {
				continue
			}
			program := family.program + "-" + variant
			text, err := run(program + "-save")
			if err != nil {
				c.missing = append(c.missing, "the rules of "+program)
				continue
			}
			load(text, "the rules of "+program, program+"-restore")
		}
	}
	slices.Sort(c.missing)
}

// replayTime is far more than printing or loading a rule set takes, lists of a
// hundred thousand blocked addresses included.
const replayTime = 20 * time.Second
