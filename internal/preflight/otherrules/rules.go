//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"cmp"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/automaton"
	"postern/internal/firewall/nftables"
	"postern/internal/policy"
)

// Rules are the other rule sets of a network namespace.
type Rules struct {
	chains map[chainKey]*chain
	bases  []*chain                            // those that the kernel calls
	sets   func(t *nft.Table, set string) *set // nil if it cannot be read
	legacy []legacy
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

// Obstacles returns what gets in the way of the machine's doors, in the order in
// which the kernel asks.
func (r *Rules) Obstacles(m *automaton.Machine) []Obstacle {
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
		each(func(s *automaton.Service, is6 bool) (Obstacle, policy.Port, bool) { return r.meets(c, s, is6) })
	}
	for _, l := range r.legacy {
		each(l.meets)
	}
	return found
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

// meets sends a new connection to the service through a base chain.
func (r *Rules) meets(c *chain, s *automaton.Service, is6 bool) (o Obstacle, port policy.Port, ok bool) {
	if !has(c.Table.Family, is6) {
		return o, port, false
	}
	o = Obstacle{Table: familyName(c.Table.Family) + " " + c.Table.Name, Chain: c.Name, Manager: r.manager(c)}
	port = s.Port
	var p packet
	forwarded := s.Forward.IsValid()
	priority := 0
	if c.Priority != nil {
		priority = int(*c.Priority)
	}
	switch hook := *c.Hooknum; {
	case hook == *nft.ChainHookPrerouting:
		p = newPacket(port, s.Address, is6)
		v := r.walk(c, p)
		switch {
		case v.untracked:
			o.Kind = Untracks
		case v.end == diverted && (!forwarded || priority < nftables.DivertPriority):
			o.Kind = Diverts
		case v.diverts && v.end != dropped && (!forwarded || priority < nftables.DivertPriority):
			o.Kind = MayDivert
		case v.end == dropped && !v.excepted:
			o.Kind = Drops
		default:
			return o, port, false
		}
		return o, port, true
	case hook == *nft.ChainHookInput && !forwarded:
		p = newPacket(port, s.Address, is6)
	case hook == *nft.ChainHookForward && forwarded:
		port.Number = s.Forward.Port()
		o.To = s.Forward.Addr()
		p = newPacket(port, s.Forward.Addr(), is6)
		p.forwarded = true
	default:
		return o, port, false
	}
	v := r.walk(c, p)
	o.Kind = Drops
	return o, port, v.end == dropped && !v.excepted
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
// gives to chains.
func (r *Rules) manager(of *chain) string {
	switch of.Table.Name {
	case "firewalld":
		return "firewalld"
	case "docker-bridges":
		return "docker"
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
		}
	}
	return found
}

// order sorts base chains as the kernel calls them.
func order(a, b *chain) int {
	priority := func(c *chain) int {
		if c.Priority == nil {
			return 0
		}
		return int(*c.Priority)
	}
	return cmp.Or(cmp.Compare(*a.Hooknum, *b.Hooknum), cmp.Compare(priority(a), priority(b)),
		cmp.Compare(a.Table.Name, b.Table.Name))
}
