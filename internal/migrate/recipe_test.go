package migrate

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/policy"
)

// TestRecipe writes random policies as rules in the recipe's manner, with other
// names, ports, times and habits, in one of several spellings, and imports
// them. The policy that comes out must be the one that went in, and nothing be left.
func TestRecipe(t *testing.T) {
	for seed := range uint64(400) {
		r := &recipe{Rand: rand.New(rand.NewPCG(seed, 7)), numbers: map[int]bool{}}
		p := r.policy()
		text := r.rules(p)
		result, err := Read("rules", []byte(text))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		got := good(t, result.Policy)
		for _, doors := range [][]policy.Door{got.Doors, p.Doors} {
			slices.SortFunc(doors, func(a, b policy.Door) int {
				return cmp.Compare(fmt.Sprint(a.Knock.Sequence), fmt.Sprint(b.Knock.Sequence))
			})
			for i := range doors {
				doors[i].Name = ""
			}
		}
		same(t, p, got)
		if len(result.Remarks) > 0 {
			t.Errorf("left: %v", result.Remarks)
		}
		if t.Failed() {
			t.Fatalf("seed %d\n%s\n%s", seed, text, result.Policy)
		}
	}
}

// A recipe writes rules.
type recipe struct {
	*rand.Rand
	numbers map[int]bool // in use, for ports and names

	names map[string]string // of chains and tags, by what they are for
	mask  string
	text  []string
	last  string // how a rule ends that refuses
}

func (r *recipe) coin() bool { return r.IntN(2) == 0 }

// number returns one that nothing has yet.
func (r *recipe) number(from, to int) int {
	for {
		if n := from + r.IntN(to-from); !r.numbers[n] {
			r.numbers[n] = true
			return n
		}
	}
}

func pick[T any](r *recipe, all ...T) T { return all[r.IntN(len(all))] }

func (r *recipe) port(from, to int) policy.Port {
	return policy.Port{Protocol: pick(r, policy.TCP, policy.TCP, policy.UDP), Number: uint16(r.number(from, to))}
}

func (r *recipe) policy() *policy.Policy {
	p := &policy.Policy{
		Posture:   pick(r, policy.Closed, policy.Closed, policy.Guard),
		Cover:     pick(r, policy.CoverDrop, policy.CoverReset, policy.CoverUnreachable),
		EarlyDrop: policy.DefaultEarlyDrop,
		Source:    policy.Source{IPv4: pick(r, 32, 32, 24), IPv6: 128},
		Log:       pick(r, policy.Log{Target: policy.LogKernel, Progress: true}, policy.Log{Target: policy.LogNone}, policy.Log{Target: policy.LogNFLOG, Group: 7, Progress: true}),
	}
	for range r.IntN(4) {
		n := uint16(r.number(1, 1000))
		a := policy.Allow{Service: policy.Service{Protocol: pick(r, policy.TCP, policy.UDP), First: n, Last: n}}
		if r.coin() {
			a.Service.First, a.Service.Last = a.Service.First+1000, a.Service.First+1040
		}
		if r.coin() {
			a.From = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.number(0, 250)), 0, 0}), 16)
		}
		if r.coin() {
			a.Interface = fmt.Sprintf("eth%d", r.number(1, 90))
		}
		p.Allow = append(p.Allow, a)
	}
	step := time.Duration(1+r.IntN(20)) * time.Second
	again := pick(r, policy.RetransmitsReset, policy.RetransmitsIgnore)
	var begin []policy.Port // what a later door may begin with
	for range 1 + r.IntN(3) {
		d := policy.Door{
			Services: []policy.Port{r.port(10000, 20000)},
			Knock:    policy.Knock{StepTimeout: step, Retransmits: again},
			OpenFor:  time.Duration(1+r.IntN(100)) * time.Second,
			Admit:    pick(r, policy.AdmitOne, policy.AdmitAny),
			OnClose:  policy.OnCloseKeep,
			Forfeit:  r.coin(),
		}
		if d.Admit == policy.AdmitAny && r.coin() {
			d.Services = append(d.Services, r.port(10000, 20000))
		}
		if begin != nil && r.coin() {
			d.Knock.Sequence = slices.Clone(begin)
		}
		for range 1 + r.IntN(5) {
			d.Knock.Sequence = append(d.Knock.Sequence, r.port(30000, 60000))
		}
		if len(d.Knock.Sequence) > 1 {
			begin = d.Knock.Sequence[:1+r.IntN(len(d.Knock.Sequence)-1)]
		} else {
			// With one knock there is no time between two, and no sequence to start over.
			d.Knock.StepTimeout, d.Knock.Retransmits = policy.DefaultStepTimeout, policy.DefaultRetransmits
		}
		p.Doors = append(p.Doors, d)
	}
	if p.Posture == policy.Guard && p.Cover == policy.CoverUnreachable && !slices.ContainsFunc(p.Doors, func(d policy.Door) bool {
		return slices.ContainsFunc(d.Services, func(p policy.Port) bool { return p.Protocol == policy.TCP })
	}) {
		p.Cover = policy.CoverReset // which is the same for UDP
	}
	if p.Log.Target != policy.LogNone && !slices.ContainsFunc(p.Doors, func(d policy.Door) bool { return len(d.Knock.Sequence) > 1 }) {
		p.Log = policy.Log{Target: policy.LogNone} // nothing would be logged
	}
	return p
}

// name returns the name of a chain or tag.
func (r *recipe) name(what string) string {
	if r.names[what] == "" {
		r.names[what] = fmt.Sprintf("%s%d", pick(r, "X", "chain-", "gate_", "SUCCESS", "OK"), r.number(1_000_000, 9_000_000))
	}
	return r.names[what]
}

func (r *recipe) add(chain string, format string, args ...any) {
	rule := fmt.Sprintf(format, args...)
	if r.coin() {
		rule = strings.NewReplacer(" -p ", " --protocol ", " -j ", " --jump ", "--dport ", "--destination-port ", " -s ", " --source ").Replace(" " + rule)
	}
	r.text = append(r.text, fmt.Sprintf("-A %s %s", chain, strings.TrimSpace(rule)))
}

func (r *recipe) recent(verb, tag string) string {
	s := fmt.Sprintf("-m recent --%s --name %s", verb, r.name(tag))
	if r.coin() {
		s = fmt.Sprintf("-m recent --name %s --%s", r.name(tag), verb)
	}
	if r.mask != "" {
		s += " --mask " + r.mask
	}
	return s
}

func to(p policy.Port) string { return fmt.Sprintf("-p %s --dport %d", p.Protocol, p.Number) }

func (r *recipe) rules(p *policy.Policy) string {
	r.names = map[string]string{}
	if p.Source.IPv4 == 24 {
		r.mask = "255.255.255.0"
	} else if r.coin() {
		r.mask = "255.255.255.255"
	}
	main, root, end := r.name("main"), r.name("root"), r.name("end")
	r.last = "-j " + end
	r.add("INPUT", "-m %s RELATED,ESTABLISHED -j ACCEPT", pick(r, "conntrack --ctstate", "state --state"))
	if r.coin() {
		r.add("INPUT", "-i lo -j ACCEPT")
		r.add("INPUT", "-p tcp --tcp-flags ALL NONE -j DROP")
	}
	for _, a := range p.Allow {
		rule := fmt.Sprintf("-p %s --dport %d", a.Service.Protocol, a.Service.First)
		if a.Service.First != a.Service.Last {
			rule = fmt.Sprintf("-p %s -m multiport --dports %d:%d", a.Service.Protocol, a.Service.First, a.Service.Last)
		}
		if a.From.IsValid() {
			rule = fmt.Sprintf("-s %s %s", a.From, rule)
		}
		if a.Interface != "" {
			rule = fmt.Sprintf("-i %s %s", a.Interface, rule)
		}
		r.add("INPUT", "%s -j ACCEPT", rule)
	}
	r.add("INPUT", "-j %s", main)

	for i := range p.Doors {
		d := &p.Doors[i]
		tag, chain := node(d.Knock.Sequence), r.name("chain"+node(d.Knock.Sequence))
		r.add(main, "%s --seconds %d -j %s", r.recent("rcheck", tag), int(d.OpenFor.Seconds()), chain)
		r.open(p, d, chain, tag)
		r.add(chain, "-j %s", root)
	}
	for _, n := range r.inner(p) {
		tag, chain := node(n.path), r.name("chain"+node(n.path))
		r.add(main, "%s --seconds %d -j %s", r.recent("rcheck", tag), int(n.step.Seconds()), chain)
		if n.again == policy.RetransmitsIgnore {
			for _, port := range slices.Concat(n.path, n.services) {
				if !slices.Contains(n.next, port) {
					r.add(chain, "%s %s", to(port), r.last)
				}
			}
		}
		r.add(chain, "%s", r.recent("remove", tag))
		r.log(p, chain)
		for _, port := range n.next {
			r.add(chain, "%s %s %s", to(port), r.recent("set", node(append(slices.Clone(n.path), port))), r.last)
		}
		r.add(chain, "-j %s", root)
	}
	r.add(main, "-j %s", root)
	var first []policy.Port
	for _, d := range p.Doors {
		if port := d.Knock.Sequence[0]; !slices.Contains(first, port) {
			first = append(first, port)
			r.add(root, "%s %s %s", to(port), r.recent("set", node(d.Knock.Sequence[:1])), r.last)
		}
	}
	r.add(root, "%s", r.last)
	r.refuse(p, end)
	return r.spell(p)
}

// open writes what a door does once it is knocked at.
func (r *recipe) open(p *policy.Policy, d *policy.Door, chain, tag string) {
	if d.Forfeit && d.Knock.Retransmits == policy.RetransmitsIgnore && len(d.Knock.Sequence) > 1 {
		for _, port := range d.Knock.Sequence {
			r.add(chain, "%s %s", to(port), r.last)
		}
	}
	switch {
	case d.Admit == policy.AdmitOne && d.Forfeit:
		r.add(chain, "%s", r.recent("remove", tag))
		r.log(p, chain)
		r.add(chain, "%s -j ACCEPT", to(d.Services[0]))
	case d.Admit == policy.AdmitOne:
		r.log(p, chain)
		r.add(chain, "%s %s -j ACCEPT", to(d.Services[0]), r.recent("remove", tag))
	default:
		for _, s := range d.Services {
			r.add(chain, "%s -j ACCEPT", to(s))
		}
		if d.Forfeit {
			r.add(chain, "%s", r.recent("remove", tag))
		}
	}
}

func (r *recipe) log(p *policy.Policy, chain string) {
	switch p.Log.Target {
	case policy.LogKernel:
		r.add(chain, `-j LOG --log-prefix "In knock 2: " --log-level 6`)
	case policy.LogNFLOG:
		r.add(chain, `-j NFLOG --nflog-prefix "In knock 2: " --nflog-group %d`, p.Log.Group)
	}
}

// refuse writes the chain that refuses.
func (r *recipe) refuse(p *policy.Policy, end string) {
	how := func(match string) {
		switch p.Cover {
		case policy.CoverDrop:
			r.add(end, "%s -j DROP", match)
		case policy.CoverReset:
			if !strings.HasPrefix(match, "-p udp") {
				r.add(end, "%s -j REJECT --reject-with tcp-reset", cmp.Or(match, "-p tcp"))
			}
			if !strings.HasPrefix(match, "-p tcp") {
				r.add(end, "%s -j REJECT", match)
			}
		default:
			r.add(end, "%s -j REJECT --reject-with icmp-port-unreachable", match)
		}
	}
	if p.Posture == policy.Closed {
		how("")
		return
	}
	for _, d := range p.Doors {
		for _, s := range d.Services {
			how(to(s))
		}
	}
	r.add(end, "-j ACCEPT")
}

// node names a point of progress.
func node(path []policy.Port) string { return fmt.Sprint(path) }

type inner struct {
	path, next, services []policy.Port
	step                 time.Duration
	again                policy.Retransmits
}

// inner are the points of progress that open nothing yet.
func (r *recipe) inner(p *policy.Policy) []*inner {
	var all []*inner
	for _, d := range p.Doors {
		for i := 1; i < len(d.Knock.Sequence); i++ {
			path := d.Knock.Sequence[:i]
			at := slices.IndexFunc(all, func(n *inner) bool { return slices.Equal(n.path, path) })
			if at < 0 {
				at = len(all)
				all = append(all, &inner{path: path, step: d.Knock.StepTimeout, again: d.Knock.Retransmits})
			}
			n := all[at]
			if next := d.Knock.Sequence[i]; !slices.Contains(n.next, next) {
				n.next = append(n.next, next)
			}
			n.services = append(n.services, d.Services...)
		}
	}
	return all
}

// spell writes the rules as a listing or as a script.
func (r *recipe) spell(p *policy.Policy) string {
	input := map[policy.Posture]string{policy.Closed: "DROP", policy.Guard: "ACCEPT"}[p.Posture]
	var chains []string
	for _, rule := range r.text {
		if name := strings.Fields(rule)[1]; name != "INPUT" && !slices.Contains(chains, name) {
			chains = append(chains, name)
		}
	}
	r.Shuffle(len(chains), func(i, j int) { chains[i], chains[j] = chains[j], chains[i] })
	var b strings.Builder
	if r.coin() {
		fmt.Fprintf(&b, "*filter\n:INPUT %s [0:0]\n", input)
		for _, name := range chains {
			fmt.Fprintf(&b, ":%s - [0:0]\n", name)
		}
		counters := pick(r, "", "[12:3456] ")
		for _, rule := range r.text {
			fmt.Fprintf(&b, "%s%s\n", counters, rule)
		}
		b.WriteString("COMMIT\n")
		return b.String()
	}
	program := pick(r, "iptables", "/sbin/iptables -w", "sudo iptables", "$IPT")
	b.WriteString("#!/bin/sh\nIPT=iptables\n")
	for _, name := range chains {
		fmt.Fprintf(&b, "%s -N %s\n", program, name)
	}
	for _, rule := range r.text {
		fmt.Fprintf(&b, "%s %s\n", program, rule)
	}
	fmt.Fprintf(&b, "%s -P INPUT %s\n", program, input)
	return b.String()
}
