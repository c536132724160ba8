package automaton

import (
	"net/netip"
	"time"

	"postern/internal/policy"
)

// A Token is what the key of one device opens: one door.
type Token struct {
	Door   int // index in Machine.Doors
	User   *policy.User
	Device string
}

// Name returns the user and the device: "alice/laptop".
func (t *Token) Name() string { return t.User.Name + "/" + t.Device }

// tokenKey is what tokens are found by.
type tokenKey struct{ name, door string }

// compileTokens fills Tokens.
func (m *Machine) compileTokens() {
	users := make(map[string]*policy.User, len(m.Policy.Users))
	for i := range m.Policy.Users {
		users[m.Policy.Users[i].Name] = &m.Policy.Users[i]
	}
	for i := range m.Doors {
		for _, name := range m.Doors[i].Knock.Users {
			for _, device := range users[name].Devices {
				m.Tokens = append(m.Tokens, Token{Door: i, User: users[name], Device: device})
			}
		}
	}
}

// Token returns what a device, by the name that Token.Name returns, opens at a door,
// or nil if it opens nothing there.
func (m *Machine) Token(name, door string) *Token { return m.tokens[tokenKey{name, door}] }

// after returns the state that a door leaves a source in.
func (m *Machine) after(door int) StateID {
	sequence := m.Doors[door].Knock.Sequence
	state := Root
	for _, port := range sequence {
		state = m.edges[input{state, port}].To
	}
	return state
}

// Close judges a token that closes its door, and is otherwise as for Token. It asks for no
// `from`, as it gives nothing.
func (r *Reference) Close(at time.Duration, sender netip.Addr, t *Token) Verdict {
	source, v, accepted := r.receive(at, sender, t)
	if accepted {
		r.close(source, v.Door, at)
		v.Closed = true
	}
	return v
}

// Token judges a token of the machine's that has been verified. The verdict has no
// rule and admits nothing: the packet is answered as others are to its port. The time
// is as for Step.
func (r *Reference) Token(at time.Duration, sender netip.Addr, t *Token) Verdict {
	source, v, accepted := r.receive(at, sender, t)
	if !accepted {
		return v
	}
	if v.Granted = r.grant(source, sender.Unmap(), v.Door, at); v.Granted {
		v.To = r.move(source, r.machine.after(t.Door), at)
	}
	return v
}

// receive forgets the progress of a token's sender, and returns the source and the verdict
// on a token that neither opens nor closes anything. It is not accepted from elsewhere than its
// user may be.
func (r *Reference) receive(at time.Duration, sender netip.Addr, t *Token) (source netip.Addr, v Verdict, accepted bool) {
	sender = sender.Unmap()
	source = r.machine.Policy.Source.Mask(sender)
	from := r.at(source, at)
	delete(r.progress, source)
	return source, Verdict{From: from, To: Root, Door: &r.machine.Doors[t.Door]}, t.User.AcceptsFrom(sender)
}
