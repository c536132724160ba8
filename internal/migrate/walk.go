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

// A place is where a probe comes from and goes to. Empty, it is one that no
// rule names: the way of strangers.
type place struct {
	iface    string
	from, to netip.Prefix
}

// within tells whether b is the same place, or one that names less.
func (a place) within(b place) bool {
	return (b.iface == "" || a.iface == b.iface) && (!b.from.IsValid() || a.from == b.from) && (!b.to.IsValid() || a.to == b.to)
}

// tags are the lists of the match "recent" that a source is in, by number.
type tags [4]uint64

func (t tags) has(n int) bool { return t[n/64]&(1<<(n%64)) != 0 }

func (t tags) with(n int) tags { t[n/64] |= 1 << (n % 64); return t }

func (t tags) without(n int) tags { t[n/64] &^= 1 << (n % 64); return t }

type verdict int

const (
	accepted verdict = iota
	dropped
	reset
	unreachable
	refused // in yet another way
)

// An outcome is what the rules do with a probe.
type outcome struct {
	tags    tags // afterwards
	verdict verdict
	forward netip.AddrPort // where it was sent on to, if it was

	sentBy *rule  // that sent it on
	by     *rule  // that decided, or
	chain  *chain // whose policy did

	window   time.Duration // the shortest that a tag it met was good for; 0: for ever
	windowBy *rule
	renews   bool // meeting a tag renewed it
	logs     []*rule
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

// send walks a probe of a source with tags through the rules.
func (w *walker) send(p probe, t tags) outcome {
	f := &flight{walker: w, probe: p, outcome: outcome{tags: t}, addr: w.sender(p.at.from), to: p.at.to.Addr()}
	for _, hook := range arriving {
		if !f.hook(hook) {
			return f.outcome
		}
	}
	rest := staying
	if f.sent {
		rest = leaving
	}
	for _, hook := range rest {
		if !f.hook(hook) {
			return f.outcome
		}
	}
	return f.outcome
}

// hook has the probe go through a built-in chain, and tells whether it came out.
func (f *flight) hook(name chainName) bool {
	c := f.set.chains[name]
	if c == nil {
		return true
	}
	if !f.enter(c) {
		f.verdict, f.by, f.chain = accepted, nil, c
		if c.policy == "DROP" {
			f.verdict = dropped
		}
	}
	return f.verdict == accepted
}

// enter goes through a chain, and tells whether a rule decided.
func (f *flight) enter(c *chain) bool {
	f.depth++
	defer func() { f.depth-- }()
	for _, r := range c.rules {
		passed := f.passes(r)
		if f.trail != nil {
			*f.trail = append(*f.trail, step{r, f.packet, f.depth, passed, f.tags})
		}
		if !passed {
			continue
		}
		r.passed = true
		switch r.target {
		case "":
		case "RETURN":
			return false
		case "ACCEPT", "DROP", "REJECT", "TARPIT":
			f.verdict, f.by, f.chain = verdictOf(r), r, c
			return true
		case "LOG", "NFLOG", "ULOG":
			f.logs = append(f.logs, r)
		case "DNAT":
			if to, ok := parseEndpoint(r.options["--to-destination"], f.port.Number); ok && c.table == "nat" {
				f.verdict, f.by, f.chain = accepted, r, c
				f.forward, f.sentBy, f.to, f.sent = to, r, to.Addr(), true
				f.port.Number = to.Port()
				return true
			}
		case "REDIRECT":
			if n, ok := portNumber(r.options["--to-ports"]); ok && c.table == "nat" {
				f.verdict, f.by, f.chain = accepted, r, c
				f.port.Number = n
				return true
			}
		default:
			next := f.set.chains[chainName{c.table, r.target}]
			if next == nil || next.builtin() {
				continue
			}
			if f.enter(next) {
				return true
			}
			if r.jumps {
				return false
			}
		}
	}
	return false
}

func verdictOf(r *rule) verdict {
	switch with := r.options["--reject-with"]; {
	case r.target == "ACCEPT":
		return accepted
	case r.target != "REJECT":
		return dropped
	case strings.Contains(with, "rst") || strings.Contains(with, "reset"):
		return reset
	case with == "" || strings.Contains(with, "port-unreach"):
		return unreachable
	}
	return refused
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
		switch t.kind {
		case onRecent:
			if !f.recently(r, t) {
				return false
			}
		case onUnknown:
			return false
		default:
			if f.holds(t) == t.not {
				return false
			}
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
		// Where nothing listens, there is nothing to let in.
		return transport && !f.sent
	case onRate:
		return true
	}
	return false
}

func isEcho(kind string) bool {
	return slices.Contains([]string{"8", "8/0", "128", "128/0", "echo-request", "ping", "any", "255"}, kind)
}

func holdsPort(ranges []policy.Service, n uint16) bool {
	return slices.ContainsFunc(ranges, func(r policy.Service) bool { return n >= r.First && n <= r.Last })
}

// recently does what the match "recent" does with the source's tags.
func (f *flight) recently(r *rule, t *test) bool {
	n, known := f.numbers[t.recent.name]
	if !known {
		return false
	}
	has := f.tags.has(n)
	switch t.recent.verb {
	case "set":
		f.tags = f.tags.with(n)
		return !t.not
	case "remove":
		f.tags = f.tags.without(n)
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
