package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
	"postern/internal/host"
	"postern/internal/policy"
)

// A Backend applies rule sets to the network namespace of the calling thread.
// The zero value is ready for use.
type Backend struct {
	via *netlink.Conn // of a Keeper; nil: a new one for each transaction
}

var _ interface {
	firewall.Backend
	firewall.Renderer
	firewall.ChainOwner
	firewall.Marker
	firewall.Keepable
	firewall.Granter
	firewall.KeyVerifier
	firewall.TagVerifier
} = Backend{}

// Name is "nftables".
func (Backend) Name() string { return "nftables" }

// Machine compiles a policy with exact parameters. There is none that nftables
// cannot run.
func (Backend) Machine(p *policy.Policy) (*automaton.Machine, error) {
	m, err := automaton.Compile(p)
	if err == nil {
		m.Parameters.Early, m.Parameters.EarlyUDP = p.DropsEarly(), p.DropsEarly()
	}
	return m, err
}

// Formats returns the text for the program nft.
func (Backend) Formats() []firewall.Format {
	return []firewall.Format{{Name: "nft", Render: func(m *automaton.Machine, s firewall.Style) string {
		return Compile(m).Render(s)
	}}}
}

// Owns reports whether a chain is of our table.
func (Backend) Owns(table, _ string) bool { return table == "inet "+Table }

// Marks reports whether chains of others see what was admitted marked.
func (Backend) Marks(h firewall.Hook) bool { return marks(h) }

// Digest names the machine's rule set.
func (Backend) Digest(m *automaton.Machine) string { return Compile(m).Digest() }

var table = &nft.Table{Name: Table, Family: nft.TableFamilyINet}

// Apply loads the machine's rule set in one transaction: the kernel runs the old
// rules or the new ones, whole, whenever this process dies. Sets that packets
// change stay in place, so that nothing earned is lost meanwhile.
//
// A TCP connection that is older than the rules, and that conntrack may know
// nothing of, goes on: its addresses and ports are part of the transaction.
func (b Backend) Apply(m *automaton.Machine) error { return b.apply(m, false) }

// apply is Apply. Distrust says that others have changed the table, and may have loaded a
// listing of before a tag was used: no tag of theirs outlives the transaction.
func (b Backend) apply(m *automaton.Machine, distrust bool) error {
	r := Compile(m)
	r.addDecoys(m)
	before, err := firewall.Connections()
	if err != nil {
		return err
	}
	v := verifier.New(m, bpf.Priority)
	defer v.Close()
	var tags []tagPair
	if v != nil {
		if lacks := v.Unsupported(); lacks != nil {
			_, err := b.TagsLast(m, lacks)
			if err == nil {
				r.verifyByTags(m.Policy)
				r.tagSets.distrust = distrust
				tags = tagPairs(m, v.Keys())
			}
			v.Instead(pairsOf(tags), err)
		}
	}
	early, err := v.Early()
	if err != nil {
		return err
	}
	r.setCodes(m, v.Codes(), early)
	pause, err := verifier.PauseEarly()
	if err != nil {
		return err
	}
	defer pause.Close()
	if err := pausable(pause); err != nil {
		return err
	}
	if err := retry(func() error { return r.replace(b.via, before) }); err != nil {
		if resumed := pause.Resume(); resumed != nil {
			return fmt.Errorf("%w; and nothing is dropped early any more: %w", err, resumed)
		}
		return err
	}
	if r.tagSets != nil {
		if _, err := b.loadTags(tags); err != nil {
			return fmt.Errorf("the rules are loaded, but keys may open nothing: %w", err)
		}
	}
	if err := v.Attach(); err != nil {
		return err
	}
	return b.rememberSessions(r, before)
}

// pausable returns an error if a program that drops by the loaded rules would go on when
// they are gone, because this process may not look at programs.
func pausable(p *verifier.Pause) error {
	if !p.Blind() {
		return nil
	}
	counted := false
	if _, err := dump("counted", func(element, lifetime) bool {
		counted = true
		return false
	}); err != nil {
		return err
	}
	if counted {
		return &firewall.PermissionError{Err: unix.EPERM, Programs: true}
	}
	return nil
}

// rememberSessions lets connections go on that are not among those before: they were
// made under the old rules, or under none, at the very moment of the change.
func (b Backend) rememberSessions(r *Ruleset, before host.Flows) error {
	after, err := firewall.Connections()
	if err == nil {
		err = retry(func() error { return r.remember(b.via, after.Without(before)) })
	}
	if err != nil {
		return fmt.Errorf("the rules are loaded, but connections that were made in that very moment may stall: %v", err)
	}
	return nil
}

// Remove deletes the table, and so opens what it hid, and then what verifies tokens.
func (b Backend) Remove() error {
	pause, err := verifier.PauseEarly()
	if err != nil {
		return err
	}
	defer pause.Close()
	if err := pausable(pause); err != nil {
		return err
	}
	keys := false // there are tokens to verify
	if err := retry(func() error {
		conn := &nft.Conn{}
		_, loaded, err := ours(conn)
		if err != nil || loaded == nil {
			return err
		}
		sets, err := conn.GetSets(table)
		if err != nil {
			return err
		}
		keys = keys || has(sets, "keys") && !has(sets, "tags")
		if err := changeable(loaded, b.via); err != nil {
			return err
		}
		var all batch
		all.delTable()
		return all.commit(b.via, 0)
	}); err != nil {
		return err
	}
	if err := verifier.Detach(bpf.Priority); err != nil && (keys || !verifier.NotPermitted(err)) {
		return fmt.Errorf("the rules are removed, but what verifies tokens is not: %w", err)
	}
	return nil
}

// retry repeats what failed because others changed the firewall at the same
// moment.
func retry(f func() error) error {
	var err error
	for wait := time.Millisecond; wait < time.Second; wait *= 4 {
		if err = f(); err == nil {
			return nil
		}
		var errno unix.Errno
		_, lacks := errors.AsType[*firewall.UnsupportedError](err)
		_, denied := errors.AsType[*firewall.PermissionError](err)
		if lacks || denied || !errors.As(err, &errno) {
			return err
		}
		switch errno {
		case unix.EPERM, unix.EACCES:
			return &firewall.PermissionError{Err: err}
		case unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP:
			return unsupported(err)
		case unix.EMSGSIZE:
			return fmt.Errorf("the rule set does not fit the netlink buffer that this user may have; "+
				"load it as root of the machine, or raise net.core.wmem_max: %w", err)
		case unix.ERESTART, unix.EBUSY, unix.EAGAIN, unix.EINTR, unix.ENOENT, unix.EEXIST, unix.ENOBUFS:
			time.Sleep(wait)
		default:
			return fmt.Errorf("the kernel refused the rules: %w", err)
		}
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) { // not by chance, so many times
		return fmt.Errorf("the kernel refused the rules: %w", err)
	}
	return &firewall.BusyError{Err: err}
}

func unsupported(err error) error {
	return &firewall.UnsupportedError{
		What: "nftables, or one too old for Postern",
		Hint: "load it with `modprobe nf_tables`, or use a kernel with CONFIG_NF_TABLES_INET",
		Err:  err,
	}
}

// ours returns our table, or nil, and which generation of the kernel's rules says so.
func ours(conn *nft.Conn) (generation uint32, loaded *nft.Table, err error) {
	// The first question is the one whose error says what is wrong.
	if _, err := conn.ListTablesOfFamily(nft.TableFamilyINet); err != nil {
		if errors.Is(err, unix.EINVAL) { // nfnetlink's word for a subsystem that it lacks
			return 0, nil, unsupported(err)
		}
		return 0, nil, err
	}
	gen, err := conn.GetGen()
	if err != nil {
		return 0, nil, err
	}
	tables, err := conn.ListTablesOfFamily(nft.TableFamilyINet)
	if err != nil {
		return 0, nil, err
	}
	if i := slices.IndexFunc(tables, func(t *nft.Table) bool { return t.Name == Table }); i >= 0 {
		loaded = tables[i]
	}
	return gen.ID, loaded, nil
}

// has reports whether a set of a name is among loaded ones.
func has(loaded []*nft.Set, name string) bool {
	return slices.ContainsFunc(loaded, func(s *nft.Set) bool { return s.Name == name })
}

// replace puts the rule set in the place of what is loaded. It reads none of
// what packets have put into sets: there may be a million elements, which take
// the kernel minutes to hand out.
func (r *Ruleset) replace(via *netlink.Conn, live host.Flows) error {
	conn := &nft.Conn{}
	generation, loaded, err := ours(conn)
	if err != nil {
		return err
	}
	var b batch
	kept := map[string]bool{} // what of the loaded table stays in place
	if loaded == nil {
		// What others change meanwhile does not matter, unless they make this table.
		generation = 0
		b.addTable(Table, netlink.Create|netlink.Excl, newTableFlags())
	} else {
		if err := changeable(loaded, via); err != nil {
			return err
		}
		b.addTable(Table, netlink.Create, uint32(loaded.Flags)&^tableDormant)
		if kept, err = r.clear(&b, conn); err != nil {
			return err
		}
	}
	r.fill(&b, kept)
	r.addSessions(&b, live)
	return b.commit(via, generation)
}

// fill adds all that is to be loaded, but what is kept of a table that is loaded.
func (r *Ruleset) fill(b *batch, kept map[string]bool) {
	for _, name := range r.counters {
		if !kept["counter "+name] {
			b.addCounter(name)
		}
	}
	for _, c := range r.chains {
		if !kept["chain "+c.name] || c.base != nil { // a base chain's policy may have been changed
			b.addChain(c)
		}
	}
	for i, s := range r.sets {
		if !kept["set "+s.name] {
			b.addSet(s, uint32(i+1))
		}
		b.addElements(s.name, s.entries())
	}
	for _, c := range r.chains {
		for i := range c.rules {
			b.addRule(c, &c.rules[i])
		}
	}
}

// clear deletes, in the transaction, all that is loaded but what stays, and returns
// the names of that. Besides the sets that packets change, these stay:
//
//   - the chains that the kernel calls: taking one out and putting it back would
//     leave a moment without it;
//   - maps, and the chains that they lead to. A packet that is being judged while
//     the rules change goes on by the old ones, but from one moment to the next the
//     kernel shows it nothing of a map that is deleted (Linux 6.4 and later): it
//     lost knocks, and a port to be hidden was not known as such. In a map that
//     stays it finds the old elements before that moment, and the new ones after.
func (r *Ruleset) clear(b *batch, conn *nft.Conn) (map[string]bool, error) {
	kept := map[string]bool{}
	b.flushRules()

	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, err
	}
	old, err := r.otherStates(sets)
	if err != nil {
		return nil, err
	}
	// Verdict maps refer to chains, and must go before them.
	for _, loaded := range sets {
		if loaded.Anonymous {
			continue // of a rule that others have put here; it goes with it
		}
		s := r.set(loaded.Name)
		if s == nil || !(s.earned() || s.isMap()) || !s.same(loaded) {
			b.delSet(loaded.Name)
			continue
		}
		if !s.earned() || old && s.isMap() {
			b.flushSet(loaded.Name)
		}
		kept["set "+loaded.Name] = true
	}
	if r.tagSets != nil {
		// To take out half a million elements takes the kernel some ten seconds, and the set
		// as a whole none.
		for _, s := range r.tagSets.void(kept["set "+r.used.name]) {
			if kept["set "+s.name] {
				b.delSet(s.name)
				delete(kept, "set "+s.name)
			}
		}
	}
	chains, err := conn.ListChainsOfTableFamily(nft.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	wanted := map[string]*chain{}
	for _, c := range r.chains {
		wanted[c.name] = c
	}
	for _, loaded := range chains {
		if loaded.Table.Name != Table || strings.HasPrefix(loaded.Name, "__chain") {
			continue // the latter go with the rule that jumps there, which is others'
		}
		if c := wanted[loaded.Name]; c != nil && c.same(loaded) {
			kept["chain "+loaded.Name] = true
			continue
		}
		b.delChain(loaded.Name)
	}
	objects, err := conn.GetNamedObjects(table)
	if err != nil {
		return nil, err
	}
	counters := map[string]bool{}
	for _, name := range r.counters {
		counters[name] = true
	}
	for _, o := range objects {
		named, ok := o.(*nft.NamedObj)
		if !ok {
			continue
		}
		if named.Type == nft.ObjTypeCounter && counters[named.Name] {
			kept["counter "+named.Name] = true
			continue
		}
		b.delObject(named.Name, uint32(named.Type))
	}
	return kept, nil
}

// otherStates reports whether the rules that are loaded have states with the bit that
// says that a source has moved, as those of early versions had: progress in these would
// be taken for moves.
func (r *Ruleset) otherStates(loaded []*nft.Set) (bool, error) {
	found := false
	for _, s := range loaded {
		if s.Name == "rule_set" {
			if digest, _ := readComment(s.Comment); digest == r.digest {
				return false, nil // as it says, or modified by others
			}
		}
	}
	for _, s := range loaded {
		if s.Name != "step" && s.Name != "step_echo" || s.Anonymous {
			continue
		}
		if _, err := dump(s.Name, func(e element, _ lifetime) bool {
			found = found || len(e.key) >= 4 && binary.NativeEndian.Uint32(e.key)&moved != 0
			return !found
		}); err != nil {
			return false, err
		}
	}
	return found, nil
}

// earned reports whether what the kernel holds in the set outlives the rules.
func (s *set) earned() bool { return s.timeout }

func (s *set) isMap() bool { return s.data != nil || s.verdict }

// same reports whether a loaded set is made as this one is.
func (s *set) same(loaded *nft.Set) bool {
	key := s.keyType()
	data := nft.TypeVerdict
	if s.data != nil {
		data = *s.data
	}
	return key.GetNFTMagic() == loaded.KeyType.GetNFTMagic() && key.Bytes == loaded.KeyType.Bytes &&
		s.isMap() == loaded.IsMap && (!s.isMap() || data.GetNFTMagic() == loaded.DataType.GetNFTMagic()) &&
		s.timeout == loaded.HasTimeout && s.dynamic == loaded.Dynamic && s.size == loaded.Size
}

// same reports whether a loaded chain is called by the kernel as this one is.
func (c *chain) same(loaded *nft.Chain) bool {
	if c.base == nil {
		return loaded.Hooknum == nil
	}
	return loaded.Hooknum != nil && loaded.Priority != nil &&
		*loaded.Hooknum == *c.base.hook && int(*loaded.Priority) == c.base.priority && loaded.Type == c.base.kind
}

func (s *set) keyType() datatype {
	if len(s.key) == 1 {
		return s.key[0]
	}
	return nft.MustConcatSetType(s.key...) // at most five, which is what fits
}

// sessionsFor is how long a connection that is older than the rules may be
// silent: as long as conntrack remembers one (nf_conntrack_tcp_timeout_established).
const sessionsFor = 5 * 24 * time.Hour

// remember lets connections go on that were made before the rules.
func (r *Ruleset) remember(via *netlink.Conn, live host.Flows) error {
	var b batch
	r.addSessions(&b, live)
	return b.commit(via, 0)
}

func (r *Ruleset) addSessions(b *batch, live host.Flows) {
	for _, f := range families {
		var entries []entry
		for flow := range live {
			if of(flow.Remote.Addr()) == f {
				entries = append(entries, entry{
					element: elementOf(addrPart(flow.Remote.Addr()), portPart(flow.Remote.Port()),
						addrPart(flow.Local.Addr()), portPart(flow.Local.Port())),
					expire: sessionsFor,
				})
			}
		}
		b.addElements(r.live.sessions[f].name, entries)
	}
}

func portPart(n uint16) part { return part{fmt.Sprint(n), portBytes(n)} }
