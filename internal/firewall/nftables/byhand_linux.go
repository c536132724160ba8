package nftables

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// Grant puts into the sets what the door's last knock puts there, in one transaction.
//
// What marks a source that has any grant must live as long as the longest of them, and a
// knock sets its time anew. The mark of a grant by hand has no time, which a knock leaves
// as it is. A mark that is left over costs its source's packets a look at grants that are
// not there.
func (b Backend) Grant(m *automaton.Machine, d *automaton.Door, to netip.Addr, lasts time.Duration) error {
	source := m.Policy.Source.Mask(to)
	f := of(source)
	set, limit := "once"+f.suffix(), oneUse
	if d.Admit == policy.AdmitAny {
		set, limit = "many"+f.suffix(), manyUses
	}
	limit.burst-- // the packet of a knock uses up one of these
	var grants []entry
	for _, i := range d.Grants {
		grants = append(grants, entry{element: grantElement(source, m.Grants[i].ID), expire: lasts, limit: &limit})
	}
	mark := []entry{{element: elementOf(addrPart(source))}}
	return b.edit(func(all *batch) {
		all.renewElements(set, grants)
		all.renewElements("granted"+f.suffix(), mark)
		if d.Forfeit {
			all.renewElements("held"+f.suffix(), mark)
		}
	})
}

func grantElement(source netip.Addr, id automaton.GrantID) element {
	return elementOf(addrPart(source), idPart(uint32(id)))
}

// edit changes elements of the loaded table, in one transaction.
func (b Backend) edit(change func(*batch)) error {
	return retry(func() error {
		_, loaded, err := ours(&nft.Conn{})
		if err != nil {
			return err
		}
		if loaded == nil {
			return errors.New("the rules have been removed")
		}
		if err := changeable(loaded, b.via); err != nil {
			return err
		}
		var all batch
		change(&all)
		return all.commit(b.via, 0)
	})
}

// Revoke deletes grants. To cut sessions it also deletes what lets their packets in, and
// notes that they are not to go on.
func (b Backend) Revoke(m *automaton.Machine, r firewall.Revocation) (gone firewall.Revoked, err error) {
	rules := Compile(m)
	switch {
	case r.Keep:
	case r.From.IsValid():
		gone.Grants, err = b.takeGrants(rules, m.Policy.Source.Mask(r.From), r.Grants(m))
	default:
		gone.Grants, err = b.takeAllGrants(rules)
	}
	if err != nil || !r.Cut {
		return gone, err
	}
	// Nothing new is let in any more: what is open now is all.
	open, spared, err := r.Sessions(m)
	if err != nil {
		return gone, err
	}
	gone.Connections, gone.Spared = len(open), spared
	if err := b.cut(rules, m, &r, open); err != nil {
		return gone, err
	}
	return gone, firewall.End(open)
}

// Open returns the clients' ends of the connections with a door's services.
func (Backend) Open(m *automaton.Machine, d *automaton.Door) ([]netip.AddrPort, error) {
	return firewall.Open(m, d)
}

// takeGrants deletes grants of a source, and returns how many it had.
func (b Backend) takeGrants(rules *Ruleset, source netip.Addr, ids []automaton.GrantID) (n int, err error) {
	var grants []entry
	for _, id := range ids {
		grants = append(grants, entry{element: grantElement(source, id)})
	}
	var sets []string
	for _, of := range rules.live.grants(source) {
		sets = append(sets, of.name)
		for i := range grants {
			held, err := holds(of.name, grants[i])
			if err != nil {
				return n, err
			}
			if held {
				n++
			}
		}
	}
	return n, b.edit(func(all *batch) {
		for _, set := range sets {
			all.dropElements(set, grants)
		}
	})
}

// grants returns the sets of the grants of a source's family.
func (l *liveSets) grants(source netip.Addr) (all []*set) {
	for _, sets := range []map[family]*set{l.once, l.many} {
		if s := sets[of(source)]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// takeAllGrants deletes all grants, and returns how many there were: of very many a part.
func (b Backend) takeAllGrants(rules *Ruleset) (int, error) {
	var status firewall.Status
	if err := b.ReadSources(&status); err != nil {
		return 0, err
	}
	return len(status.Grants), b.edit(func(all *batch) {
		for _, sets := range []map[family]*set{rules.live.once, rules.live.many, rules.live.granted, rules.live.held} {
			for _, s := range sets {
				all.flushSet(s.name)
			}
		}
	})
}

// cut notes that sessions are not to go on, and deletes what would let in their packets,
// or packets of others like them that were admitted and have not arrived.
func (b Backend) cut(rules *Ruleset, m *automaton.Machine, r *firewall.Revocation, open map[firewall.Session]bool) error {
	cut := map[family][]entry{}
	for s := range open {
		f := of(s.Remote.Addr())
		e := elementOf(addrPart(s.Remote.Addr()), portPart(s.Remote.Port()), addrPart(s.Local.Addr()), portPart(s.Local.Port()))
		cut[f] = append(cut[f], entry{element: e, expire: sessionsFor})
	}
	gone := map[string][]entry{}
	services := r.Services(m)
	for protocol, live := range map[policy.Protocol][]map[family]*set{
		policy.TCP: {rules.live.syns, rules.live.sessions}, policy.UDP: {rules.live.packets},
	} {
		for _, sets := range live {
			for f, set := range sets {
				if _, err := dump(set.name, func(e element, _ lifetime) bool {
					s := flowOf(e.key, f, protocol)
					if r.Reaches(m, services, s) && !r.Spares(s) {
						gone[set.name] = append(gone[set.name], entry{element: element{key: e.key}})
					}
					return true
				}); err != nil {
					return err
				}
			}
		}
	}
	return b.edit(func(all *batch) {
		for f, entries := range cut {
			all.renewElements(rules.live.cut[f].name, entries)
		}
		for set, entries := range gone {
			all.dropElements(set, entries)
		}
	})
}

// flowOf reads the key of a set of connections or flows.
func flowOf(key []byte, f family, p policy.Protocol) firewall.Session {
	at := f.bits() / 8
	end := func(b []byte) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b[:at])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[at:]))
	}
	return firewall.Session{Protocol: p, Remote: end(key), Local: end(key[at+4:])}
}

// holds asks the kernel for one element of a set of ours.
func holds(set string, e entry) (bool, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	var ask batch
	ask.elements(set, unix.NFT_MSG_GETSETELEM, 0, []entry{e})
	if ask.err != nil {
		return false, ask.err
	}
	_, err = conn.Execute(ask.messages[0])
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}
