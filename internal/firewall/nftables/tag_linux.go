package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	nft "github.com/google/nftables"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
	"postern/internal/key"
	"postern/internal/policy"
)

const (
	// maxTags is how many tags are loaded, of all devices and doors. The kernel takes some
	// 100 bytes for each, and as much again while its time has not come.
	maxTags = 1 << 19

	// shortestTagged is how long tags must last at least, for the next ones to be loaded in time.
	shortestTagged = time.Hour

	// lookAgain is how long it is not asked again whether tags verify tokens, where they do
	// not.
	lookAgain = time.Minute

	// clockSlack is how far apart two looks at clocks may be that are made at once.
	clockSlack = 2 * time.Second
)

// longestTagged is how long tags last, where there is room for as many.
var longestTagged = 24 * time.Hour // tests have less

// tagsLast returns how long tags last that are loaded for so many pairs of a device and a
// door; 0 if there is no room for as many.
func tagsLast(pairs int) time.Duration {
	room := time.Duration(maxTags/max(pairs, 1)/2) * key.Spacing // of two lanes
	if room < shortestTagged {
		return 0
	}
	return min(room, longestTagged)
}

// TagsLast returns how long the tags of a machine last, if they can verify its tokens.
func (Backend) TagsLast(m *automaton.Machine, reason *firewall.UnsupportedError) (time.Duration, error) {
	what, hint := "", ""
	switch most := maxTags / 2 / int(shortestTagged/key.Spacing); {
	case m.Policy.Keys.Bound == policy.BoundRequired:
		what, hint = "\"address: required\" takes them", "write \"address: optional\": then keys work without"
	case len(m.Tokens) > most:
		what = fmt.Sprintf("%d pairs of a device and a door take them", len(m.Tokens))
		hint = fmt.Sprintf("without them keys work for %d pairs", most)
	default:
		return tagsLast(len(m.Tokens)), nil
	}
	return 0, &firewall.UnsupportedError{What: reason.What + ", and " + what, Hint: hint + "; or " + reason.Hint, Err: reason.Err}
}

// A tagged is a device and a door whose tags are loaded.
type tagged struct {
	bpf.Pair
	until time.Time     // of the newest tag
	left  time.Duration // while that counts, by the kernel's clock for timeouts
}

// Whose tags are loaded is in the kernel: the code, the door, the device, and until when
// in seconds since 1970. The entry lasts as long as the newest tag counts.

// counts returns how long the newest tag counts.
func (t *tagged) counts() time.Duration { return time.Until(t.until.Add(key.DefaultWindow.Behind)) }

func (t *tagged) entry() entry {
	d := uint64(t.Device)
	return entry{
		element: elementOf(idPart(t.Code), idPart(uint32(t.Door)), idPart(uint32(d>>32)), idPart(uint32(d)), idPart(uint32(t.until.Unix()))),
		expire:  max(t.counts(), time.Millisecond),
	}
}

// dumpTagged returns whose tags are loaded, and whether the clock has been set since, or
// the host has slept: then the kernel's timeouts are wrong.
func dumpTagged() (all []tagged, stepped bool, err error) {
	err = dumpWhole("tagged", func(e element, l lifetime) {
		if len(e.key) != 20 {
			return
		}
		word := func(i int) uint32 { return binary.NativeEndian.Uint32(e.key[4*i:]) }
		t := tagged{left: l.left, until: time.Unix(int64(word(4)), 0)}
		t.Code, t.Door, t.Device = word(0), key.Door(word(1)), key.Device(uint64(word(2))<<32|uint64(word(3)))
		all = append(all, t)
		stepped = stepped || (t.counts()-t.left).Abs() > clockSlack
	})
	return all, stepped, err
}

// hasTags reports whether tags verify tokens under the rules that are loaded.
func hasTags() (bool, error) {
	sets, err := (&nft.Conn{}).GetSets(table)
	if errors.Is(err, unix.ENOENT) { // no rules are loaded
		err = nil
	}
	return has(sets, "tags"), err
}

// partSize is how many tags are loaded at once: a message of them fits the buffer that any
// user may have.
const partSize = 1000

// loadTags loads tags of the times that are to come, and returns when it is to be done
// again. Those that are loaded stay. Of a device that is new to the kernel, as all are after
// a boot, no token counts that may have been used before: of those made until now, and made
// as early as counts. The same holds for all when the clock was set, and where tags
// are there with another code, as the user's last moment was another.
func (b Backend) loadTags(pairs []tagPair) (renew time.Time, err error) {
	known, stepped, err := dumpTagged()
	if err != nil {
		return renew, err
	}
	if !stepped && len(known) > 0 {
		renew, err = b.loadTagsBehind(known, pairs)
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) {
			return renew, err
		}
	}
	if err := b.flushTags(); err != nil { // also what is left of an attempt that was killed
		return renew, err
	}
	return b.loadTagsBehind(nil, pairs)
}

func (b Backend) flushTags() error {
	return b.edit(func(all *batch) {
		for _, set := range []string{"tags", "early", "tagged"} {
			all.flushSet(set)
		}
	})
}

// loadTagsBehind loads tags that come after those that are loaded.
func (b Backend) loadTagsBehind(known []tagged, pairs []tagPair) (renew time.Time, err error) {
	last := tagsLast(len(pairs))
	now := time.Now()
	until := now.Add(last).Truncate(key.Spacing)
	renew = now.Add(last / 4)
	loaded := make([]tagged, len(pairs))
	for i, p := range pairs {
		after := now.Add(key.DefaultWindow.Ahead)
		if k := slices.IndexFunc(known, func(t tagged) bool { return t.Code == p.Code }); k >= 0 && known[k].until.After(after) {
			after = known[k].until
		}
		loaded[i] = tagged{Pair: p.Pair, until: until}
		if after.After(until) { // it was loaded for longer, among fewer
			loaded[i].until = after
		} else if err := b.addTags(p, p.Tags(after, until)); err != nil {
			return renew, err
		}
	}
	return renew, b.edit(func(all *batch) {
		entries := make([]entry, len(loaded))
		for i := range loaded {
			entries[i] = loaded[i].entry()
		}
		all.flushSet("tagged")
		all.addElements("tagged", entries)
	})
}

// A tagPair is a pair with what makes its tokens.
type tagPair struct {
	bpf.Pair
	key.Credential
	until time.Time // from when on they are refused; zero: never
}

// tagPairs returns the devices of a machine that have keys, with each door that they open.
func tagPairs(m *automaton.Machine, keys automaton.Keyring) (all []tagPair) {
	taken := map[uint32]bool{}
	for _, d := range verifier.Devices(m, keys) {
		for _, door := range d.Doors {
			code := tagCode(d.ID, door, d.Until, taken)
			taken[code] = true
			all = append(all, tagPair{
				bpf.Pair{Device: d.ID, Door: door, Code: code},
				key.Credential{Site: keys.Site, Device: d.ID, Door: door, Secret: d.Secret}, d.Until,
			})
		}
	}
	return all
}

// addTags adds tags of a pair. An element lasts as long as its tag is right, and that of a
// tag from the future until it is.
func (b Backend) addTags(p tagPair, all iter.Seq2[time.Time, key.Tag]) error {
	var tags, early []entry
	add := func() error {
		part, soon := tags, early
		tags, early = nil, nil
		return b.edit(func(all *batch) {
			all.addElements("early", soon)
			all.addElements("tags", part)
		})
	}
	for at, tag := range all {
		now := time.Now()
		ends := at.Add(key.DefaultWindow.Behind)
		if !p.until.IsZero() && p.until.Before(ends) {
			ends = p.until
		}
		begins := at.Add(-key.DefaultWindow.Ahead)
		if !ends.After(begins) || !ends.After(now) {
			continue
		}
		e := element{key: tag[:], data: idBytes(p.Code)}
		tags = append(tags, entry{element: e, expire: ends.Sub(now)})
		if begins.After(now) {
			early = append(early, entry{element: element{key: tag[:]}, expire: begins.Sub(now)})
		}
		if len(tags) == partSize {
			if err := add(); err != nil {
				return err
			}
		}
	}
	return add()
}

// pairsOf returns the pairs alone.
func pairsOf(tags []tagPair) (all []bpf.Pair) {
	for i := range tags {
		all = append(all, tags[i].Pair)
	}
	return all
}

// inspectTags adds to a status what verifier.Inspect adds, where tags verify tokens.
func inspectTags(status *firewall.Status, _ bpf.Carrier, codes func() (map[uint32]string, error)) error {
	loaded, stepped, err := dumpTagged()
	if err != nil {
		return err
	}
	known, err := codes()
	if err != nil {
		return err
	}
	status.Keyless = len(loaded) == 0
	tags := &firewall.Tags{Stepped: stepped, Last: tagsLast(len(loaded))}
	for i, t := range loaded {
		verifier.AddUse(status, t.Pair, known)
		if i == 0 || t.until.Before(tags.Until) {
			tags.Until = t.until
		}
	}
	status.Tags = tags
	return nil
}

// forgetTags has no tag of a device lead anywhere any more.
func (b Backend) forgetTags(d key.Device) error {
	all, _, err := dumpTagged()
	if err != nil {
		return err
	}
	known, err := knownCodes()
	if err != nil {
		return err
	}
	var codes, loaded []entry
	for _, t := range all {
		if t.Device != d {
			continue
		}
		loaded = append(loaded, t.entry())
		if _, leads := known[t.Code]; leads { // not after an attempt that was killed
			codes = append(codes, entry{element: elementOf(idPart(t.Code))})
		}
	}
	if len(loaded) == 0 {
		return nil
	}
	return b.edit(func(all *batch) {
		all.delElements("keys", codes)
		all.dropElements("tagged", loaded)
	})
}

// renewTags loads the next tags, when it is time.
func (k *Keeper) renewTags(m *automaton.Machine) error {
	now := time.Now()
	// A reading of the monotonic clock is in both, and is no part of the rounded ones.
	stepped := (now.Sub(k.looked) - now.Round(0).Sub(k.looked.Round(0))).Abs() > clockSlack
	k.looked = now
	if now.Round(0).Before(k.renew.Round(0)) && !stepped {
		return nil
	}
	tags, err := hasTags()
	if err != nil {
		return err
	}
	if !tags {
		k.renew = now.Add(lookAgain)
		return nil
	}
	keys, err := m.Keyring()
	if err != nil {
		return err
	}
	k.renew, err = k.loadTags(tagPairs(m, keys))
	return err
}
