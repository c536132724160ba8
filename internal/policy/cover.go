package policy

import (
	"slices"
	"strconv"
)

// A Cover is the answer to a packet that is not admitted. It does not depend on
// the sender's progress, which it would reveal.
type Cover string

const (
	CoverDrop        Cover = "drop"        // no answer
	CoverReset       Cover = "reset"       // what a port with nothing behind it answers: RST, or ICMP port unreachable
	CoverUnreachable Cover = "unreachable" // ICMP port unreachable, for TCP too
)

// DropsEarly reports whether packets over the budget of attempts may be dropped before the
// rules see them: where no packet that is blocked is answered.
func (p *Policy) DropsEarly() bool {
	return p.EarlyDrop && p.Posture == Closed && !p.Cover.Answers()
}

// Answers reports whether any port answers a stranger: by what is allowed, or by how what is
// blocked is refused.
func (p *Policy) Answers() bool {
	return p.Posture == Guard || p.Cover.Answers() || len(p.Allow) > 0
}

// An Answer is what the sender of a refused packet receives.
type Answer int

const (
	NoAnswer          Answer = iota
	AnswerReset              // TCP's RST
	AnswerUnreachable        // ICMP port unreachable (RFC 792, RFC 4443)
	AnswerOther              // another ICMP error. No cover answers so; other rule sets may
)

func (a Answer) String() string {
	switch a {
	case NoAnswer:
		return "no answer"
	case AnswerReset:
		return "a RST"
	case AnswerUnreachable:
		return "port unreachable"
	case AnswerOther:
		return "another ICMP error"
	}
	return "Answer(" + strconv.Itoa(int(a)) + ")"
}

// covers lists every cover with its answers. The parser, the backends,
// preflight and the importer know covers only by this table. A cover is defined
// by its answers to TCP and to UDP.
var covers = []struct {
	cover    Cover
	tcp, udp Answer
}{
	{CoverDrop, NoAnswer, NoAnswer},
	{CoverReset, AnswerReset, AnswerUnreachable},
	{CoverUnreachable, AnswerUnreachable, AnswerUnreachable},
}

// Covers returns every cover.
func Covers() []Cover {
	all := make([]Cover, len(covers))
	for i := range covers {
		all[i] = covers[i].cover
	}
	return all
}

// Answer returns what a packet of the protocol receives if it is not admitted.
// Only TCP and UDP are answered: echo requests, for example, are refused only
// by routers, about hosts that are not there.
func (c Cover) Answer(protocol Protocol) Answer {
	i := slices.Index(Covers(), c)
	switch {
	case i < 0:
		panic("policy: no answers are defined for cover " + string(c))
	case protocol == TCP:
		return covers[i].tcp
	case protocol == UDP:
		return covers[i].udp
	}
	return NoAnswer
}

// IdleAnswer returns the kernel's own answer for a port that nothing listens
// on.
func IdleAnswer(protocol Protocol) Answer { return CoverReset.Answer(protocol) }

// Answers reports whether the cover answers anything at all.
func (c Cover) Answers() bool { return c.Answer(TCP) != NoAnswer || c.Answer(UDP) != NoAnswer }

// LooksIdle reports whether refused ports answer like ports that nothing
// listens on.
func (c Cover) LooksIdle() bool {
	return c.Answer(TCP) == IdleAnswer(TCP) && c.Answer(UDP) == IdleAnswer(UDP)
}
