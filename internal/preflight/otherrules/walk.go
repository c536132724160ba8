//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"net/netip"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// An end is what becomes of the packet in a chain.
type end int

const (
	goesOn end = iota // to the chain's caller, or to its policy
	accepted
	dropped
	diverted
	returned // to the chain's caller
	narrowed // from here on the chain is for some senders
)

// A verdict is what a base chain does to the packet.
type verdict struct {
	end         end
	answer      policy.Answer  // to what is dropped
	excepted    bool           // a rule that names the port may accept it after all
	acceptsSome bool           // a rule that names the port accepts it from some senders
	dropsMost   bool           // a rule drops it from all senders but some
	diverts     bool           // a rule that names the port may divert it
	to          netip.AddrPort // where, as far as that is known
	untracked   bool

	acceptsFrom []string // whom a rule that names the port accepts it from, if it says that of some
}

// maxDepth and maxRules bound the walk: other people's rules may be many, and
// every jump takes them again.
const (
	maxDepth = 16 // the kernel's own limit (NFT_JUMP_STACK_SIZE)
	maxRules = 200_000
)

type walker struct {
	*Rules
	packet packet
	verdict
	rules      int
	narrowedTo string // the senders for whom the rest of a chain is
}

// walk sends the packet through a base chain.
func (r *Rules) walk(c *chain, p packet) verdict {
	w := &walker{Rules: r, packet: p}
	w.end = w.chain(c, condition{}, 0)
	if w.end == goesOn && c.Policy != nil && *c.Policy == nft.ChainPolicyDrop {
		w.end = dropped
	}
	return w.verdict
}

// chain sends the packet through a chain. In one that it may not even reach,
// nothing ends; only exceptions count.
func (w *walker) chain(c *chain, under condition, depth int) end {
	if depth > maxDepth {
		return goesOn
	}
	for _, rule := range c.rules {
		if w.rules++; w.rules > maxRules {
			return accepted
		}
		switch end := w.rule(c, rule, under, depth); end {
		case goesOn:
		case narrowed:
			under.some, under.who = true, strings.TrimSpace(under.who+" "+w.narrowedTo)
		case returned:
			return goesOn
		default:
			return end
		}
	}
	return goesOn
}

// rule judges the packet by a rule of a chain that is reached under a condition.
func (w *walker) rule(c *chain, rule []expr.Any, under condition, depth int) end {
	var r registers
	var own condition // of this rule
	here := func() condition { own.named = r.named; return under.and(own) }
	for _, one := range rule {
		if w.packet.load(&r, one) {
			continue
		}
		a, why := yes, condition{}
		switch one := one.(type) {
		case *expr.Cmp:
			a = r.compare(one)
			why.doubt(&r, one.Register, one.Op == expr.CmpOpNeq, w.who(&r, one.Register, one.Data))
		case *expr.Range:
			a = r.within(one)
			why.doubt(&r, one.Register, one.Op == expr.CmpOpNeq, w.whoWithin(&r, one))
		case *expr.Bitwise:
			r.mask(one)
		case *expr.Match:
			a = w.packet.extension(&r, one)
			why.doubtMatch(one)
		case *expr.Limit, *expr.Quota, *expr.Connlimit, *expr.Dynset:
			a, why.other = unknown, true
		case *expr.Lookup:
			set := w.sets(c.Table, one.SetName)
			element, found := set.find(&r, one.SourceRegister)
			if a = found; one.Invert {
				a = a.not()
			}
			why.doubt(&r, one.SourceRegister, one.Invert, w.whoAmong(&r, one.SourceRegister, set, one.SetName))
			switch {
			case !one.IsDestRegSet:
			case one.DestRegister != unix.NFT_REG_VERDICT: // a map to values
				r.unknown(one.DestRegister, 16)
			case a == yes && element.VerdictData != nil:
				return w.follow(c, element.VerdictData, here(), depth)
			case a == unknown:
				w.any(c, set, here(), why, func(e *nft.SetElement) string { return w.who(&r, one.SourceRegister, e.Key) }, depth)
				return goesOn
			}
		case *expr.Immediate:
			r.put(one.Register, one.Data)
		case *expr.Verdict:
			if one.Kind == expr.VerdictReturn && own.onlyMost() {
				w.narrowedTo = own.who
				return narrowed
			}
			return w.follow(c, one, here(), depth)
		case *expr.Reject:
			return w.refuses(rejects(one, w.packet.is6), here())
		case *expr.Queue:
			return w.ends(accepted, here())
		case *expr.Notrack:
			w.untracked = w.untracked || !here().maybe()
		case *expr.NAT:
			if one.Type == expr.NATTypeDestNAT {
				if here().named && !w.to.IsValid() {
					w.to = r.divertedTo(one)
				}
				return w.ends(diverted, here())
			}
			return w.ends(accepted, here())
		case *expr.Redir:
			return w.ends(diverted, here())
		case *expr.Target:
			switch {
			case isReject(one.Name):
				return w.refuses(rejectsLegacy(one, w.packet.is6), here())
			case isDivert(one.Name):
				if here().named && !w.to.IsValid() {
					w.to = divertedToLegacy(one)
				}
				return w.ends(diverted, here())
			case one.Name == "CT" || one.Name == "NOTRACK":
				w.untracked = w.untracked || !here().maybe() && one.Name == "NOTRACK"
			}
		}
		switch a {
		case no:
			return goesOn
		case unknown:
			own = own.and(why)
		}
	}
	return goesOn
}

// any follows every verdict of a map of which it is unknown which one is meant: by
// the interface, say.
func (w *walker) any(c *chain, s *set, under, why condition, who func(*nft.SetElement) string, depth int) {
	for i := range s.all() {
		if v := s.elements[i].VerdictData; v != nil && w.rules < maxRules {
			w.rules++
			why.who = who(&s.elements[i])
			w.follow(c, v, under.and(why), depth)
		}
	}
}

// ends returns an end, unless it is unknown whether the packet gets there.
func (w *walker) ends(e end, how condition) end {
	if e == diverted && how.named {
		w.diverts = true
	}
	switch {
	case !how.maybe():
		return e
	case e == accepted && how.named && how.some:
		w.acceptsSome = true
		w.accepts(how.who)
	case e == accepted && how.named:
		w.excepted = true
	case e == dropped && how.onlyMost() && !w.excepted:
		w.dropsMost = true
		w.accepts(how.who)
	}
	return goesOn
}

// accepts notes senders from whom the packet is accepted.
func (w *walker) accepts(who string) {
	if who != "" && !slices.Contains(w.acceptsFrom, who) {
		w.acceptsFrom = append(w.acceptsFrom, who)
	}
}

// refuses ends the packet with an answer.
func (w *walker) refuses(as policy.Answer, how condition) end {
	if !how.maybe() {
		w.answer = as
	}
	return w.ends(dropped, how)
}

// follow does what a verdict says.
func (w *walker) follow(c *chain, v *expr.Verdict, how condition, depth int) end {
	switch v.Kind {
	case expr.VerdictAccept, expr.VerdictStop, expr.VerdictQueue, expr.VerdictStolen:
		return w.ends(accepted, how)
	case expr.VerdictDrop:
		return w.ends(dropped, how)
	case expr.VerdictReturn:
		if how.maybe() {
			return goesOn
		}
		return returned
	case expr.VerdictJump, expr.VerdictGoto:
		to := w.chains[chainKey{c.Table.Family, c.Table.Name, v.Chain}]
		if to == nil {
			return goesOn
		}
		e := w.chain(to, how, depth+1)
		if e == goesOn && v.Kind == expr.VerdictGoto && !how.maybe() {
			return returned
		}
		return e
	}
	return goesOn
}
