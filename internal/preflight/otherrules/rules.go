//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"cmp"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/nftables"
	"postern/internal/policy"
)

// Rules are the other rule sets of a network namespace.
type Rules struct {
	chains map[chainKey]*chain
	bases  []*chain                            // those that the kernel calls
	sets   func(t *nft.Table, set string) *set // nil if it cannot be read
	legacy []legacy

	indices map[string]uint32 // of the interfaces
}

type chainKey struct {
	family nft.TableFamily
	table  string
	chain  string
}

type chain struct {
	*nft.Chain
	rules [][]expr.Any
}

// A set is what a lookup looks in.
type set struct {
	interval bool
	elements []nft.SetElement
}

// Obstacles returns what gets in the way of the doors of a machine of the backend, in
// the order in which the kernel asks.
func (r *Rules) Obstacles(m *automaton.Machine, b firewall.Backend) []Obstacle {
	var found []Obstacle
	add := func(o Obstacle, port policy.Port) {
		same := func(other Obstacle) bool {
			return other.Kind == o.Kind && other.Table == o.Table && other.Chain == o.Chain && other.To == o.To
		}
		i := slices.IndexFunc(found, same)
		if i < 0 {
			found = append(found, o)
			i = len(found) - 1
		}
		for _, s := range o.Senders {
			if !slices.Contains(found[i].Senders, s) {
				found[i].Senders = append(found[i].Senders, s)
			}
		}
		if !slices.Contains(found[i].Ports, port) {
			found[i].Ports = append(found[i].Ports, port)
		}
	}
	each := func(meets func(s *automaton.Service, is6 bool) (Obstacle, policy.Port, bool)) {
		for i := range m.Services {
			s := &m.Services[i]
			for _, is6 := range []bool{false, true} {
				if s.Address.IsValid() && s.Address.Is6() != is6 || s.Forward.IsValid() && s.Forward.Addr().Is6() != is6 {
					continue
				}
				if o, port, ok := meets(s, is6); ok {
					add(o, port)
				}
			}
		}
	}
	for _, c := range r.bases {
		each(func(s *automaton.Service, is6 bool) (Obstacle, policy.Port, bool) { return r.meets(c, m, b, s, is6) })
	}
	for _, l := range r.legacy {
		each(l.meets)
	}
	return oncePerPort(found)
}

// oncePerPort leaves out the ports that a chain drops in one family and accepts
// from some senders in the other: the weaker word is true of both.
func oncePerPort(all []Obstacle) []Obstacle {
	for i := range all {
		if all[i].Kind != Drops {
			continue
		}
		for _, o := range all {
			if o.Kind == AcceptsSome && o.Table == all[i].Table && o.Chain == all[i].Chain && o.To == all[i].To {
				all[i].Ports = slices.DeleteFunc(all[i].Ports, func(p policy.Port) bool { return slices.Contains(o.Ports, p) })
			}
		}
	}
	return slices.DeleteFunc(all, func(o Obstacle) bool { return len(o.Ports) == 0 })
}

func has(f nft.TableFamily, is6 bool) bool {
	switch f {
	case nft.TableFamilyINet:
		return true
	case nft.TableFamilyIPv4:
		return !is6
	case nft.TableFamilyIPv6:
		return is6
	}
	return false
}

// meets sends new connections to the service through a base chain, from everyone
// who may knock.
func (r *Rules) meets(c *chain, m *automaton.Machine, b firewall.Backend, s *automaton.Service, is6 bool) (o Obstacle, port policy.Port, ok bool) {
	if !has(c.Table.Family, is6) {
		return o, port, false
	}
	o = Obstacle{Table: familyName(c.Table.Family) + " " + c.Table.Name, Chain: c.Name, Manager: r.manager(c)}
	port = s.Port
	forwarded := s.Forward.IsValid()
	p := newPacket(port, s.Address, is6)
	diverts := false // whether it matters that the chain sends the packet elsewhere
	switch hook := *c.Hooknum; {
	case hook == *nft.ChainHookPrerouting:
		diverts = !forwarded || priority(c) < nftables.DivertPriority
	case hook == *nft.ChainHookInput && !forwarded:
	case hook == *nft.ChainHookForward && forwarded:
		port.Number = s.Forward.Port()
		o.To = s.Forward.Addr()
		p = newPacket(port, s.Forward.Addr(), is6)
		p.forwarded = true
	default:
		return o, port, false
	}
	if o.Marked = marks(b, c); o.Marked {
		p.mark = admitted(m)
	}
	all := r.senders(m, s, is6)
	if len(all) == 0 {
		return o, port, false
	}
	met := map[Kind]int{}
	const nothing Kind = -1
	for _, from := range all {
		v := r.walk(c, p.from(from))
		for _, who := range v.acceptsFrom {
			if !slices.Contains(o.Senders, who) {
				o.Senders = append(o.Senders, who)
			}
		}
		drops := v.end == dropped && !v.excepted
		switch {
		case v.untracked:
			met[Untracks]++
		case diverts && v.end == diverted:
			met[Diverts]++
		case diverts && v.diverts && v.end != dropped:
			met[MayDivert]++
		case drops && !v.acceptsSome:
			met[Drops]++
		case drops || v.dropsMost:
			met[AcceptsSome]++
		default:
			met[nothing]++
		}
	}
	o.Kind = AcceptsSome // where it depends on the sender
	for kind, n := range met {
		if n == len(all) {
			o.Kind = kind
		}
	}
	switch {
	case met[nothing] == len(all):
		return o, port, false
	case o.Kind != AcceptsSome: // it is the same for all
	case met[Untracks] > 0:
		o.Kind = Untracks
	case met[Diverts]+met[MayDivert] > 0:
		o.Kind = MayDivert
	}
	if o.Kind != AcceptsSome {
		o.Senders = nil
	}
	return o, port, true
}

func familyName(f nft.TableFamily) string {
	switch f {
	case nft.TableFamilyIPv4:
		return "ip"
	case nft.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}

// manager guesses the program that a table belongs to from the names that it
// uses for chains.
func (r *Rules) manager(of *chain) string {
	switch of.Table.Name {
	case "firewalld":
		return "firewalld"
	case "docker-bridges":
		return "docker"
	case "netavark":
		return "podman"
	case "kube-proxy":
		return "kubernetes"
	}
	found := ""
	for _, c := range r.chains {
		if c.Table.Family != of.Table.Family || c.Table.Name != of.Table.Name {
			continue
		}
		switch {
		case len(c.Name) > 4 && c.Name[:4] == "ufw-", len(c.Name) > 5 && c.Name[:5] == "ufw6-":
			return "ufw" // which may well live beside Docker, and has the say on input
		case c.Name == "DOCKER-USER", c.Name == "DOCKER":
			found = "docker"
		case strings.HasPrefix(c.Name, "NETAVARK"), strings.HasPrefix(c.Name, "CNI-HOSTPORT"):
			found = "podman"
		case strings.HasPrefix(c.Name, "KUBE-"):
			found = "kubernetes"
		}
	}
	return found
}

// order sorts base chains as the kernel calls them.
func order(a, b *chain) int {
	return cmp.Or(cmp.Compare(*a.Hooknum, *b.Hooknum), cmp.Compare(priority(a), priority(b)),
		cmp.Compare(a.Table.Name, b.Table.Name))
}

func priority(c *chain) int {
	if c.Priority == nil {
		return 0
	}
	return int(*c.Priority)
}
