package conformance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/policy"
)

// keyPort is where tokens arrive, if a plan has keys.
var keyPort = policy.Port{Protocol: policy.UDP, Number: 5555}

// A userPlan is a user of a plan.
type userPlan struct {
	name     string
	devices  []string
	networks []string
	until    string
}

// userNames and deviceNames are those of all plans.
var (
	userNames   = []string{"u1", "u2"}
	deviceNames = []string{"d1", "d2"}
)

// newKeyring returns keys of all devices that plans can have, so that a device keeps its
// key when rules are replaced.
func newKeyring() automaton.Keyring {
	ring := automaton.Keyring{Site: key.NewSite(), Devices: map[string]automaton.DeviceKey{}}
	for _, user := range userNames {
		for _, device := range deviceNames {
			ring.Devices[user+"/"+device] = automaton.DeviceKey{ID: key.NewDevice(), Secret: key.NewSecret()}
		}
	}
	return ring
}

// verifies reports whether a backend verifies tokens here.
func verifies(b firewall.Backend) bool {
	_, ok := b.(firewall.KeyVerifier)
	return ok && bpf.Probe() == nil
}

// drawKeys gives a plan users whose keys open some of its doors.
func (p *plan) drawKeys(r *rand.Rand, blocks []block) {
	if p.bound = pick(r, []string{"optional", "optional", "required"}); p.tags {
		p.bound = "optional"
	}
	for _, name := range userNames[:1+r.IntN(len(userNames))] {
		u := userPlan{name: name, devices: pickSome(r, deviceNames, 1, 2)}
		if chance(r, 0.2) {
			u.networks = append(u.networks, pick(r, blocks).draw(r))
		}
		if chance(r, 0.3) {
			u.until = pick(r, []string{"2020-01-01", "2099-12-31"})
		}
		p.users = append(p.users, u)
		for used := false; !used; {
			for i := range p.doors {
				if chance(r, 0.6) {
					p.doors[i].keys = append(p.doors[i].keys, name)
					used = true
				}
			}
		}
	}
	// A door may have no sequence, but not each of them: most scenarios knock.
	if i := r.IntN(len(p.doors)); len(p.doors) > 1 && len(p.doors[i].keys) > 0 && chance(r, 0.4) {
		p.doors[i].sequence = nil
	}
}

// A tokenKind is what is in a packet in place of nothing.
type tokenKind string

const (
	rightToken  tokenKind = "right"  // bound to no address
	boundToken  tokenKind = "bound"  // to that of the sender
	othersToken tokenKind = "others" // bound to another address
	sameToken   tokenKind = "same"   // the last one of the device for the door that was right
	wrongToken  tokenKind = "wrong"  // one bit of it
	staleToken  tokenKind = "stale"  // made too long ago
	earlyToken  tokenKind = "early"  // of a time that has not come
)

var (
	tokenKinds = []tokenKind{rightToken, rightToken, rightToken, boundToken, boundToken, othersToken, sameToken, wrongToken, staleToken, earlyToken}
	// tagKinds are those where tags verify tokens. One that is bound has none.
	tagKinds = []tokenKind{rightToken, rightToken, rightToken, rightToken, othersToken, sameToken, wrongToken, staleToken, earlyToken}
)

// verified returns what the token of a packet opens, or nil if it is not right.
func (o *model) verified(s probe) *automaton.Token {
	if s.token == "" || !s.opensConnection() {
		return nil
	}
	t := o.machine.Token(s.device, s.door)
	bound := s.token == boundToken
	switch {
	case t == nil, !bound && s.token != rightToken:
		return nil
	case !t.User.Until.IsZero() && !time.Now().Before(t.User.Until):
		return nil
	case !bound && o.machine.Policy.Keys.Bound == policy.BoundRequired:
		return nil
	}
	return t
}

// judge lets the reference judge a token that has been verified.
func (o *model) judge(at span, s probe, t *automaton.Token) outcome {
	v := outcome{unsure: o.nearDeadline(at.from, s.src, guard+2*o.noise), token: true}
	o.sources[s.src] = true
	if s.closes {
		v.verdict = o.ref.Close(at.from, s.src, t)
	} else {
		v.verdict = o.ref.Token(at.from, s.src, t)
	}
	return v
}

// sendToken adds a packet with a token.
func (w *writer) sendToken(src netip.Addr) {
	m := w.model.machine
	t := pick(w.Rand, m.Tokens)
	port := pick(w.Rand, []policy.Port{keyPort, {Protocol: policy.TCP, Number: keyPort.Number}, {Protocol: policy.ICMP}})
	s := w.probe(src, port)
	kinds := tokenKinds
	if w.pace.tags {
		kinds = tagKinds
	}
	s.token, s.device, s.door = pick(w.Rand, kinds), t.Name(), m.Doors[t.Door].Name
	if !w.pace.tags && chance(w.Rand, 0.3) { // most right ones are refused for their sender
		s.token = rightToken
	}
	if chance(w.Rand, 0.1) {
		s.door = pick(w.Rand, m.Doors).Name
	}
	s.closes = chance(w.Rand, 0.25) && !(w.pace.tags && s.token == rightToken) // which has no tag
	w.add(s)
}

// A tokenUse is a row of tokens of which each must be newer than the one before.
type tokenUse struct {
	device, door string
	lane         key.Lane
}

// makeToken makes the token of a packet that is sent now.
func (w *testbed) makeToken(s probe) ([]byte, error) {
	k := w.keys.Devices[s.device]
	c := key.Credential{Site: w.keys.Site, Device: k.ID, Door: key.DoorID(s.door), Secret: k.Secret}
	use := tokenUse{s.device, s.door, key.Lane4}
	if s.src.Is6() {
		use.lane = key.Lane6
	}
	if last := w.lastTokens[use]; s.token == sameToken && last != nil {
		return last, nil
	}
	at, err := w.timeOf(s.token, use)
	if err != nil {
		return nil, err
	}
	var bound netip.Addr
	switch s.token {
	case boundToken:
		bound = s.src
	case othersToken:
		bound = s.src.Next()
	}
	make := c.Token
	if s.closes {
		make = c.Closing
	}
	token := make(at, bound, use.lane)
	size := len(token)
	if w.tags != nil {
		size = len(token.Tag())
	}
	if s.token == wrongToken {
		token[int(s.seq)%size] ^= 1 << (s.seq % 7)
	}
	if s.token == rightToken || s.token == boundToken {
		w.lastTokens[use] = slices.Clone(token[:])
	}
	return token[:], nil
}

// timeOf returns the time of a token that is sent now.
func (w *testbed) timeOf(kind tokenKind, use tokenUse) (time.Time, error) {
	if w.tags != nil {
		return w.tags.timeOf(kind, use)
	}
	switch kind {
	case staleToken, sameToken: // if there is none that was right
		return time.Now().Add(-10 * time.Minute), nil
	case earlyToken:
		return time.Now().Add(10 * time.Minute), nil
	}
	// Of the first seconds after the rules were loaded no token counts, as it may have been
	// used before. So all are made as late as they can be.
	w.newest = w.newest.Add(1)
	if latest := time.Now().Add(key.DefaultWindow.Ahead); latest.After(w.newest) {
		w.newest = latest
	}
	return w.newest, nil
}

// tokenText returns what a packet's token is, for reports.
func (s probe) tokenText() string {
	if s.token == "" {
		return ""
	}
	does := "for"
	if s.closes {
		does = "that closes"
	}
	return fmt.Sprintf(" with %s token of %s %s %s", s.token, s.device, does, s.door)
}
