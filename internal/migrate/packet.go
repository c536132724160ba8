package migrate

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/policy"
)

// A probe is a packet on paper: it would open a connection.
type probe struct {
	port policy.Port
	at   place
}

// listed are the lists of the match "recent" that a source is in, by number.
type listed [4]uint64

const maxLists = len(listed{}) * 64

func (l listed) has(n int) bool { return l[n/64]&(1<<(n%64)) != 0 }

func (l listed) with(n int) listed { l[n/64] |= 1 << (n % 64); return l }

func (l listed) without(n int) listed { l[n/64] &^= 1 << (n % 64); return l }

// An outcome is what the rules do with a probe.
type outcome struct {
	listed  listed // afterwards
	accepts bool
	answer  policy.Answer  // if it is refused
	forward netip.AddrPort // where it was sent on to, if it was

	sentBy *rule  // that sent it on
	by     *rule  // that decided, or
	chain  *chain // whose policy did

	window   time.Duration // the shortest that an entry it met was good for; 0: for ever
	windowBy *rule
	renews   bool // meeting an entry renewed it
	logs     []*rule
}

// line is the line that decided; 0: none did.
func (o *outcome) line() int {
	switch {
	case o.by != nil:
		return o.by.line
	case o.chain != nil:
		return o.chain.line
	}
	return 0
}

// explain says that the policy, or a remark, has what the rules that decided do.
func (o *outcome) explain() {
	for _, r := range []*rule{o.by, o.sentBy} {
		if r != nil {
			r.explained = true
		}
	}
}

// A walker sends probes through a rule set.
type walker struct {
	set       *ruleset
	numbers   map[string]int              // of lists
	sources   []netip.Prefix              // all that the rules name
	addresses map[netip.Prefix]netip.Addr // a sender in each, found so far
	work      int                         // rules and tests that may still be looked at
	trail     *[]step                     // if it is to be kept
	packet    int                         // the number of the probe, for the trail
}

// A step is a rule that a probe came to.
type step struct {
	rule   *rule
	packet int
	depth  int // of chains
	passed bool
	listed listed // afterwards
}

// maxWork is some seconds' worth. The tests want it sooner.
var maxWork = 30_000_000

// The chains that a packet to this host meets, and then those of one that is
// sent on.
var (
	arriving = []chainName{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}, {"nat", "PREROUTING"}}
	staying  = []chainName{{"mangle", "INPUT"}, {"filter", "INPUT"}, {"security", "INPUT"}}
	leaving  = []chainName{{"mangle", "FORWARD"}, {"filter", "FORWARD"}, {"security", "FORWARD"}}
)

// newWalker prepares a rule set. It is nil for one without rules.
func newWalker(set *ruleset) (*walker, error) {
	w := &walker{set: set, numbers: map[string]int{}, addresses: map[netip.Prefix]netip.Addr{}, work: maxWork}
	rules := 0
	for _, c := range set.order {
		for _, r := range c.rules {
			rules++
			r.explained = needed(c, r)
			for i := range r.tests {
				t := &r.tests[i]
				switch {
				case t.kind == onRecent && t.recent.verb == "":
					*t = test{kind: onUnknown, why: "the match \"recent\" is not told what to do"}
				case t.kind == onRecent && t.recent.rdest:
					*t = test{kind: onUnknown, why: "a policy remembers who knocks, not whom they knock at"}
				case t.kind == onRecent:
					if _, known := w.numbers[t.recent.name]; !known {
						w.numbers[t.recent.name] = len(w.numbers)
					}
				case t.kind == onSource:
					w.sources = append(w.sources, t.network)
				}
			}
		}
	}
	if len(w.numbers) > maxLists {
		return nil, errTooLarge
	}
	if rules == 0 {
		return nil, nil
	}
	slices.SortFunc(w.sources, netip.Prefix.Compare)
	w.sources = slices.Compact(w.sources)
	return w, nil
}

// leadTo returns the chains, and all that their rules lead to.
func (w *walker) leadTo(from ...*chain) map[*chain]bool {
	all := map[*chain]bool{}
	var visit func(c *chain)
	visit = func(c *chain) {
		if c == nil || all[c] {
			return
		}
		all[c] = true
		for _, r := range c.rules {
			visit(w.set.target(c, r))
		}
	}
	for _, c := range from {
		visit(c)
	}
	return all
}

// reached returns the chains that packets to this host, or those that it sends
// on, can meet.
func (w *walker) reached() map[*chain]bool {
	hooks := slices.Concat(arriving, staying)
	if c := w.set.chains[chainName{"nat", "PREROUTING"}]; c != nil && len(c.rules) > 0 {
		hooks = append(hooks, leaving...)
	}
	var from []*chain
	for _, hook := range hooks {
		from = append(from, w.set.chains[hook])
	}
	return w.leadTo(from...)
}

// A flight is a probe under way.
type flight struct {
	*walker
	probe
	outcome
	addr netip.Addr // the source
	to   netip.Addr // the destination, if a rule names it or gave it
	sent bool       // on to another host

	depth int // of chains
}

// send has a probe of a source that is in lists walk through the rules.
func (w *walker) send(p probe, l listed) outcome {
	f := &flight{walker: w, probe: p, outcome: outcome{listed: l}, addr: w.sender(p.at.from), to: p.at.to.Addr()}
	hooks := slices.Clone(arriving)
	for i := 0; i < len(hooks); i++ {
		if c := f.set.chains[hooks[i]]; c != nil {
			if !f.enter(c) {
				f.decide(nil, c, c.policy != "DROP", policy.NoAnswer)
			}
			if !f.accepts {
				return f.outcome
			}
		}
		if i == len(arriving)-1 && f.sent {
			hooks = append(hooks, leaving...)
		} else if i == len(arriving)-1 {
			hooks = append(hooks, staying...)
		}
	}
	f.accepts = true
	return f.outcome
}

func (f *flight) decide(by *rule, c *chain, accepts bool, answer policy.Answer) {
	f.by, f.chain, f.accepts, f.answer = by, c, accepts, answer
}

// maxDepth is how deep chains may be nested. In a loop of chains, which the kernel
// refuses, a packet gets there.
const maxDepth = 200

// enter goes through a chain, and reports whether a rule decided.
func (f *flight) enter(c *chain) bool {
	if f.depth++; f.depth > maxDepth {
		f.work = -1
	}
	defer func() { f.depth-- }()
	for _, r := range c.rules {
		passed := f.passes(r)
		if f.trail != nil {
			*f.trail = append(*f.trail, step{r, f.packet, f.depth, passed, f.listed})
		}
		if !passed {
			continue
		}
		r.passed = true
		switch r.target {
		case "":
		case "RETURN":
			return false
		case "ACCEPT":
			f.decide(r, c, true, policy.NoAnswer)
			return true
		case "DROP", "REJECT", "TARPIT":
			f.decide(r, c, false, r.answer())
			return true
		case "LOG", "NFLOG", "ULOG":
			f.logs = append(f.logs, r)
		case "DNAT":
			if to, ok := parseEndpoint(r.options["--to-destination"], f.port.Number); ok && c.table == "nat" {
				f.decide(r, c, true, policy.NoAnswer)
				f.forward, f.sentBy, f.to, f.sent = to, r, to.Addr(), true
				f.port.Number = to.Port()
				return true
			}
		case "REDIRECT":
			if n, ok := portNumber(r.options["--to-ports"]); ok && c.table == "nat" {
				f.decide(r, c, true, policy.NoAnswer)
				f.port.Number = n
				return true
			}
		default:
			next := f.set.target(c, r)
			if next == nil || next.builtin() {
				continue
			}
			if f.enter(next) {
				return true
			}
			if r.isGoto {
				return false
			}
		}
	}
	return false
}

// answer is what a rule that refuses sends back.
func (r *rule) answer() policy.Answer {
	switch with := r.options["--reject-with"]; {
	case r.target != "REJECT":
		return policy.NoAnswer
	case strings.Contains(with, "rst") || strings.Contains(with, "reset"):
		return policy.AnswerReset
	case with == "" || strings.Contains(with, "port-unreach"):
		return policy.AnswerUnreachable
	}
	return policy.AnswerOther
}

// parseEndpoint reads where a packet is sent on to.
func parseEndpoint(text string, port uint16) (netip.AddrPort, bool) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap, ap.Port() > 0
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return netip.AddrPortFrom(a, port), err == nil && port > 0
}

func (f *flight) passes(r *rule) bool {
	if f.work -= 1 + len(r.tests); f.work < 0 {
		return false
	}
	for i := range r.tests {
		t := &r.tests[i]
		if t.kind == onRecent {
			if !f.looksUp(r, t) {
				return false
			}
		} else if t.kind == onUnknown || f.holds(t) == t.not {
			return false
		}
	}
	return true
}

func (f *flight) holds(t *test) bool {
	transport := f.port.Protocol == policy.TCP || f.port.Protocol == policy.UDP
	switch t.kind {
	case onProtocol:
		return t.protocol == 0 || t.protocol == int(f.port.Protocol)
	case onSource:
		return t.network.Contains(f.addr)
	case onAddress:
		return t.network.Bits() == 0 || f.to.IsValid() && t.network.Contains(f.to)
	case onInterface:
		if prefix, wild := strings.CutSuffix(t.name, "+"); wild {
			return prefix == "" || strings.HasPrefix(f.at.iface, prefix)
		}
		return f.at.iface == t.name
	case onOutput:
		return f.sent // who knows by which
	case onPort:
		return transport && holdsPort(t.ports, f.port.Number)
	case onSourcePort: // clients have one of these
		return transport && (holdsPort(t.ports, 49152) || holdsPort(t.ports, 60999))
	case onState:
		return slices.Contains(t.words, "NEW") || f.sent && slices.Contains(t.words, "DNAT")
	case onFlags:
		return f.port.Protocol == policy.TCP && syn&t.mask == t.flags
	case onICMP:
		return f.port.Protocol == policy.ICMP && isEcho(t.words[0])
	case onType:
		return slices.ContainsFunc(t.words, func(w string) bool { return w == "LOCAL" && !f.sent || w == "UNICAST" || w == "HOST" })
	case onSourceType: // of other hosts
		return slices.Contains(t.words, "UNICAST")
	case onSocket:
		return transport && !f.sent // where nothing listens, there is nothing to let in
	}
	return t.kind == onRate
}

func isEcho(kind string) bool {
	return slices.Contains([]string{"8", "8/0", "128", "128/0", "echo-request", "ping", "any", "255"}, kind)
}

func holdsPort(ranges []policy.Service, n uint16) bool {
	return slices.ContainsFunc(ranges, func(r policy.Service) bool { return n >= r.First && n <= r.Last })
}

// looksUp does what the match "recent" does with the lists.
func (f *flight) looksUp(r *rule, t *test) bool {
	n, known := f.numbers[t.recent.name]
	if !known {
		return false
	}
	has := f.listed.has(n)
	switch t.recent.verb {
	case "set":
		f.listed = f.listed.with(n)
		return !t.not
	case "remove":
		f.listed = f.listed.without(n)
		return has != t.not
	}
	if has = has && t.recent.hits <= 1; has && !t.not {
		if s := t.recent.seconds; s > 0 && (f.window == 0 || s < f.window) {
			f.window, f.windowBy = s, r
		} else if f.windowBy == nil {
			f.windowBy = r
		}
		f.renews = f.renews || t.recent.verb == "update"
	}
	return has != t.not
}
