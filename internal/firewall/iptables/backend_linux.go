package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
	"postern/internal/policy"
)

// A Backend applies rule sets to the network namespace of the calling thread, with
// the programs iptables-save and iptables-restore. The zero value uses the
// machine's own.
type Backend struct {
	Variant string // "nft" or "legacy"; "" for the one that the machine has made its own

	tested bool // what is to be loaded was loaded here before
}

var _ interface {
	firewall.Backend
	firewall.Renderer
	firewall.ChainOwner
	firewall.Keepable
	firewall.Delegate
	firewall.Diverted
	firewall.Marker
	firewall.Adviser
	firewall.Granter
	firewall.KeyVerifier
	firewall.SourceReader
} = Backend{}

// Name is "iptables".
func (Backend) Name() string { return name }

// Machine compiles a policy with the parameters of this package's Machine.
func (Backend) Machine(p *policy.Policy) (*automaton.Machine, error) { return Machine(p) }

// Formats returns what this package's Formats does.
func (Backend) Formats() []firewall.Format { return Formats() }

// Owns reports whether a chain is ours, by its name: in the kernel the nft variant's
// chains are nft's.
func (Backend) Owns(_, chain string) bool { return Ours(chain) }

// Program returns the version of iptables that loads the rules.
func (b Backend) Program() (string, error) {
	v, err := b.Version()
	return v.String(), err
}

// Diverts reports whether NAT rules in a table come before the machine's rules.
func (Backend) Diverts(m *automaton.Machine, table string) bool { return diverts(m, table) }

// Marks reports whether chains of others see what was admitted marked.
func (Backend) Marks(h firewall.Hook) bool { return marks(h) }

// Digest names the machine's rule set.
func (Backend) Digest(m *automaton.Machine) string { return Compile(m).Digest() }

// Apply loads the machine's rules beside those of others. The kernel takes each table of each family
// at once; if it refuses one, those before it get back what they had. If this
// process is killed between two, each is whole, Inspect reports that they do not belong
// together, and the next Apply repairs it.
//
// A TCP connection that is older than the rules, and that conntrack may know nothing
// of, goes on: conntrack is told of it.
func (b Backend) Apply(m *automaton.Machine) error {
	_, err := b.apply(m)
	return err
}

// apply also reports whether anything of the machine's rules was not there already.
func (b Backend) apply(m *automaton.Machine) (changed bool, err error) {
	r := Compile(m)
	v := verifier.New(m, bpf.Mark)
	defer v.Close()
	r.setCodes(v.Codes())
	return b.applyRules(r, v.Attach)
}

// applyRules loads a rule set, and then what it takes besides.
func (b Backend) applyRules(r *Ruleset, besides func() error) (changed bool, err error) {
	trackSessions() // what it cannot tell now it may below
	err = retry(func() error {
		edited, err := b.replace(r)
		changed = changed || edited
		return err
	})
	if err != nil {
		return changed, err
	}
	return changed, errors.Join(besides(), b.afterwards())
}

// afterwards does what is left when the rules are loaded.
func (b Backend) afterwards() error {
	// Those that came between the two looks were made under the old rules.
	untracked := trackSessions()
	if o, found, err := b.otherVariant(); err != nil {
		return fmt.Errorf("the rules are loaded, but the other variant of iptables may have older ones: %w", withoutBusy(err))
	} else if found {
		if err := retry(o.clear); err != nil {
			return fmt.Errorf("the rules are loaded, but so are older ones, by iptables-%s: %w", o.Variant, withoutBusy(err))
		}
	}
	if untracked != nil {
		return fmt.Errorf("the rules are loaded, but connections that are older may stall: %v", untracked)
	}
	return nil
}

// Remove takes out our chains and what leads there, and so opens what they hid. What
// Apply created for them goes, too, if no others use it; but tables of the legacy
// variant stay, empty: the kernel has no way to take them out of a namespace.
func (b Backend) Remove() error {
	if err := retry(b.clear); err != nil {
		return err
	}
	if o, found, err := b.otherVariant(); err != nil {
		return fmt.Errorf("the rules are taken out, but the other variant of iptables may have others: %w", withoutBusy(err))
	} else if found {
		if err := retry(o.clear); err != nil {
			return fmt.Errorf("the rules are taken out, but not those by iptables-%s: %w", o.Variant, withoutBusy(err))
		}
	}
	if err := verifier.Detach(bpf.Mark); err != nil && !verifier.NotPermitted(err) {
		return fmt.Errorf("the rules are taken out, but what verifies tokens is not: %w", err)
	}
	return nil
}

// clear takes out what is ours.
func (b Backend) clear() error {
	before, err := b.read()
	if err != nil {
		return err
	}
	gone := false
	for _, at := range slices.Backward(places) {
		err := b.load(before, at, content{})
		switch had := before[at].content(); {
		case err != nil && gone:
			return leaving(leftRules, err)
		case err != nil:
			return err
		case !had.empty():
			gone = true
		}
	}
	return leaving(leftNothing, b.removeCreated(before, nil))
}

// otherVariant reports whether the other variant has rules of ours, from before the
// machine changed from one to the other. Both share the kernel's lists of sources: a
// knock that is judged twice is a wrong one the second time.
func (b Backend) otherVariant() (other Backend, found bool, err error) {
	v, err := b.Version()
	if err != nil {
		return other, false, err
	}
	other.Variant = "nft"
	if v.Variant == "nft" {
		other.Variant = "legacy"
	}
	loaded, err := other.read()
	var unsupported *firewall.UnsupportedError
	if errors.As(err, &unsupported) { // the machine does not have it
		return other, false, nil
	}
	return other, len(loaded.contents()) > 0, err
}

// A snapshot is what a kernel's tables hold at one moment, those that there are.
type snapshot map[place]*loadedTable

// read lists all tables.
func (b Backend) read() (snapshot, error) {
	all := snapshot{}
	for _, f := range availableFamilies() {
		tables, err := b.command(f).save()
		if err != nil {
			return nil, err
		}
		for name, t := range tables {
			all[place{f, name}] = t
			if t.hidden {
				if chains, err := chainsOf(f); err != nil || slices.ContainsFunc(chains[name], Ours) {
					return nil, errors.Join(err, hidden(place{f, name}))
				}
			}
		}
	}
	return all, nil
}

// hidden is the error of a table that cannot be read.
func hidden(at place) error {
	family := "ip"
	if at.family == IPv6 {
		family = "ip6"
	}
	return &firewall.UnsupportedError{
		What: fmt.Sprintf("table %s that iptables can list: it has rules that only nft can list", at.table),
		Hint: fmt.Sprintf("move those of `nft list table %s %s` to a table of their own, or use the nftables backend", family, at.table),
	}
}

// contents returns what is ours.
func (s snapshot) contents() contents {
	all := contents{}
	for _, at := range places {
		if c := s[at].content(); !c.empty() {
			all[at] = c
		}
	}
	return all
}

// replace puts a rule set in the place of what is loaded, and reports whether it had
// to load anything.
func (b Backend) replace(r *Ruleset) (edited bool, err error) {
	before, err := b.read()
	if err != nil {
		return false, err
	}
	missing, err := b.missing()
	if err != nil {
		return false, err
	}
	key := before.contents().key()
	if key == nil {
		key = newListKey()
	}
	want := r.contents(key)
	maps.DeleteFunc(want, func(at place, _ content) bool { return !slices.Contains(availableFamilies(), at.family) })
	shape := want.shape()
	for at, c := range want {
		if t := before[at]; t != nil && t.hidden {
			return false, hidden(at)
		}
		had := before[at].content()
		old, _ := had.label()
		want[at] = c.with(label{r.digest, shape, key, slices.Concat(old.created, c.creates(missing[at]))})
	}
	for _, at := range places {
		if text := before[at].edit(at.table, want[at]); text != "" {
			edited = true
			if b.tested {
				continue
			}
			if err := b.command(at.family).test(text); err != nil {
				return false, err
			}
		}
	}
	// Programs that try rules have the kernel load the modules that make the directories.
	closeLists() // what it cannot do now is told below
	for i, at := range places {
		if err := b.load(before, at, want[at]); err != nil {
			return true, b.revert(before, places[:i], err)
		}
	}
	open := closeLists()
	after, err := b.read()
	switch {
	case err != nil:
		return edited, leaving(leftUnseen, err)
	case !after.contents().sound(r.digest):
		return edited, leaving(leftMixed, errChanged)
	case open != nil:
		return edited, leaving(leftReadable, open)
	}
	return edited, leaving(leftUnused, b.removeCreated(before, want))
}

// load brings a table from what it held before to what is wanted. If it fails and
// the table is not what it was before, that is why.
func (b Backend) load(before snapshot, at place, want content) error {
	text := before[at].edit(at.table, want)
	if text == "" {
		return nil
	}
	err := b.command(at.family).restore(text)
	if err == nil {
		return nil
	}
	if now, readErr := b.command(at.family).save(); readErr == nil && !now[at.table].same(before[at]) {
		return errChanged
	}
	return err
}

// revert restores what tables held before a failure, and returns that failure.
func (b Backend) revert(before snapshot, changed []place, failure error) error {
	now, err := b.read()
	for _, at := range slices.Backward(changed) {
		if err == nil {
			err = b.load(now, at, before[at].content())
		}
	}
	if err != nil {
		return leaving(leftMixed, fmt.Errorf("%w; and what was loaded before cannot be put back: %w", withoutBusy(failure), withoutBusy(err)))
	}
	if err := b.removeCreated(now, before.contents()); err != nil {
		return leaving(leftUndone, fmt.Errorf("%w; %w", withoutBusy(failure), err))
	}
	return failure
}

// sound reports whether what is loaded is one rule set, and whole, and nothing gets
// past it.
func (c contents) sound(digest string) bool {
	for _, f := range availableFamilies() {
		if _, found := c[place{f, "filter"}]; !found {
			return false
		}
	}
	shape, key := c.shape(), c.key()
	for _, here := range c {
		if n, found := here.label(); !found || n.digest != digest || n.shape != shape || n.key == nil || *n.key != *key {
			return false
		}
		if slices.ContainsFunc(here.entries, func(e entry) bool { return e.passed }) {
			return false
		}
	}
	return true
}

// availableFamilies are the families that the kernel has. Where IPv6 is turned off at its start,
// the legacy variant has no tables for it.
func availableFamilies() []Family {
	if _, err := os.Stat(ipv6Addresses); errors.Is(err, fs.ErrNotExist) {
		return []Family{IPv4}
	}
	return families
}

// ipv6Addresses is a file that every kernel with IPv6 has. Tests may name another.
var ipv6Addresses = "/proc/thread-self/net/if_inet6"

// same reports whether a table holds the same rules as another, whatever they have counted.
func (l *loadedTable) same(o *loadedTable) bool {
	if l == nil || o == nil {
		return l == o
	}
	return slices.EqualFunc(l.chains, o.chains, func(a, b listedChain) bool {
		return a.name == b.name && a.policy == b.policy &&
			slices.EqualFunc(a.rules, b.rules, func(a, b listedRule) bool { return a.text == b.text })
	})
}
