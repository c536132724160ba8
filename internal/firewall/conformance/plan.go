package conformance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/policy"
)

// A plan is a random policy. It becomes YAML text, so that a failure prints a
// file that reproduces it.
type plan struct {
	classic    bool // drawn like the classic recipe
	posture    string
	cover      policy.Cover
	early      bool // packets over the budget are dropped before the rules see them
	interfaces []string
	allow      []string
	doors      []doorPlan
	users      []userPlan
	tags       bool   // tokens are verified by tags
	bound      string // whether tokens must be bound to the sender's address
	marked     bool   // what a door admits is marked
	cuts       bool   // closing a door ends connections
	ipv4, ipv6 int
	log        string
	change     change // what is changed when its rules are replaced
}

// A doorPlan is a door of a plan.
type doorPlan struct {
	name        string
	services    []string
	address     string
	sequence    []string
	close       []string // the knocks that close it; nil: none do
	onClose     string
	stepTimeout string
	retransmits string
	openFor     string
	admit       string
	forfeit     bool
	from        []string
	keys        []string // the users whose keys open it; it may have no sequence then
}

// The ports of policies. They are few, so that doors share knocks and services,
// and a stray packet is often a knock of some door.
var (
	knockPorts   = []string{"1001", "1002", "1003", "1004", "1005", "udp/1001", "udp/1002", "icmp/echo"}
	servicePorts = []string{"22", "443", "3000", "udp/53", "udp/4500"}
	// strayPorts are ports that no door uses.
	strayPorts = []string{"3080", "udp/6188", "1006", "udp/22", "53"}
	// unheardPorts are stray ones where nothing listens, as what a socket waits for is not
	// dropped early. At the second nothing is counted early at all. They are for policies
	// under which idle ports do not answer.
	unheardPorts = []string{"udp/9", "udp/68"}
	// allowPorts are the ports of allow entries, and their neighbours.
	allowPorts = []string{"icmp/echo", "8443", "8009", "8010", "udp/8053", "udp/8150"}
)

// hostSecret makes decoys of decoyPorts, where a policy has decoys and no sequence begins so.
const hostSecret = "of the suite's hosts 311030"

// decoyPorts are two stray ports, a service and two knocks.
var decoyPorts = []string{"3080", "udp/6188", "3000", "1004", "udp/1002"}

// mark is what plans mark admitted packets with.
const mark policy.Mark = 0x1000

// ports parses ports.
func ports(texts []string) []policy.Port {
	var all []policy.Port
	for _, text := range texts {
		port, err := policy.ParsePort(text)
		if err != nil {
			panic(err) // the lists above are wrong
		}
		all = append(all, port)
	}
	return all
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

// pickSome returns from least to most different elements.
func pickSome[T any](r *rand.Rand, from []T, least, most int) []T {
	n := least + r.IntN(most-least+1)
	var some []T
	for _, i := range r.Perm(len(from))[:min(n, len(from))] {
		some = append(some, from[i])
	}
	return some
}

// drawClassic draws a policy like the classic recipe, for which a backend may
// have other rules, with parameters of their own.
func drawClassic(r *rand.Rand, timeouts []string, blocks []block) *plan {
	p := &plan{
		classic: true, posture: "closed", cover: "drop", ipv4: 32, ipv6: 128,
		log: pick(r, []string{"{target: none}", "{target: nflog, group: 5}", "{target: kernel}"}),
	}
	for range r.IntN(3) {
		p.allow = append(p.allow, drawAllow(r, blocks))
	}
	hidden := pickSome(r, []string{"22", "443", "3000"}, 1, 3)
	for i, service := range hidden {
		d := p.drawDoor(r, i, timeouts, map[string]doorPlan{}, blocks)
		d.services, d.address, d.from = []string{service}, "", nil
		d.retransmits, d.admit, d.forfeit, d.close = "reset", "one", true, nil
		p.doors = append(p.doors, d)
	}
	return p
}

// drawPlan draws a policy for the sources of some blocks.
func drawPlan(r *rand.Rand, timeouts []string, blocks []block) *plan {
	p := &plan{
		posture: pick(r, []string{"closed", "guard"}),
		cover:   pick(r, policy.Covers()),
		ipv4:    pick(r, []int{32, 32, 24}),
		ipv6:    pick(r, []int{128, 64, 64, 47}), // 47: more than shares a budget otherwise
		log:     pick(r, []string{"{target: none}", "{target: nflog, group: 5}", "{target: kernel}", "{target: nflog, group: 5, progress: true}"}),
	}
	if chance(r, 0.3) {
		p.interfaces = links[:1]
	}
	p.marked = chance(r, 0.65)
	p.cuts = chance(r, 0.3)
	for range r.IntN(4) {
		p.allow = append(p.allow, drawAllow(r, blocks))
	}
	services := map[string]doorPlan{} // what doors on one service have in common
	for i := range 1 + r.IntN(6) {
		p.doors = append(p.doors, p.drawDoor(r, i, timeouts, services, blocks))
	}
	if chance(r, 0.15) {
		p.silence(timeouts)
	}
	return p
}

// silence has no port answer, and no wrong port cost a grant. Then most packets to wrong
// ports may be dropped early, as soon as the longest step may be over.
func (p *plan) silence(timeouts []string) {
	p.posture, p.cover, p.allow = "closed", "drop", nil
	for i := range p.doors {
		d := &p.doors[i]
		d.forfeit = false
		if longest := timeouts[len(timeouts)-1]; d.stepTimeout == longest {
			d.stepTimeout = timeouts[0]
		}
	}
}

// dropEarly makes a plan one under which packets are dropped early.
func (p *plan) dropEarly() { p.posture, p.cover, p.early = "closed", policy.CoverDrop, true }

func drawAllow(r *rand.Rand, blocks []block) string {
	var parts []string
	if chance(r, 0.7) {
		parts = append(parts, "service: "+pick(r, []string{
			"tcp/8443", "tcp/8000-8009", "udp/8053", "icmp/echo", "udp/8100-8199", "tcp/1006", "tcp/22", "tcp/1005", "udp/1002", "esp",
			"ospf", "protocol/253",
		}))
	}
	if len(parts) == 0 || chance(r, 0.4) {
		parts = append(parts, "from: "+pick(r, blocks).draw(r))
	}
	if chance(r, 0.2) {
		parts = append(parts, "interface: "+pick(r, links[:]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (p *plan) drawDoor(r *rand.Rand, i int, timeouts []string, services map[string]doorPlan, blocks []block) doorPlan {
	d := doorPlan{
		name:        fmt.Sprintf("door-%c", 'a'+i),
		stepTimeout: pick(r, timeouts),
		retransmits: pick(r, []string{"ignore", "reset"}),
		openFor:     pick(r, timeouts),
		admit:       pick(r, []string{"one", "any"}),
		forfeit:     chance(r, 0.4),
		onClose:     "keep",
	}
	if p.cuts {
		d.onClose = "cut"
	}
	if chance(r, 0.2) {
		d.address = pick(r, slices.Concat(servers4, servers6)).String()
	}
	for _, s := range pickSome(r, servicePorts, 1, 2) {
		if other, ok := services[s]; ok {
			// Doors on one service must agree; on another address they need not.
			if d.address == "" || other.address == "" || other.address == d.address {
				d.admit, d.forfeit, d.address = other.admit, other.forfeit, other.address
			}
		}
		d.services = append(d.services, s)
	}
	for _, s := range d.services {
		services[s] = d
	}
	if d.forfeit && chance(r, 0.6) { // only with both a first knock may cost no grant
		d.retransmits = "ignore"
	}

	length := pick(r, []int{1, 2, 2, 3, 3, 3, 4})
	if len(p.doors) > 0 && chance(r, 0.5) {
		other := pick(r, p.doors)
		d.sequence = slices.Clone(other.sequence[:r.IntN(len(other.sequence))])
	}
	for len(d.sequence) < length {
		port := pick(r, knockPorts)
		if chance(r, 0.08) {
			port = pick(r, servicePorts)
		}
		d.sequence = append(d.sequence, port)
	}
	if chance(r, 0.5) {
		for range 1 + r.IntN(3) {
			d.close = append(d.close, pick(r, knockPorts))
		}
	}
	for _, other := range p.doors {
		for _, first := range other.first() {
			if slices.Contains(d.first(), first) {
				d.stepTimeout, d.retransmits = other.stepTimeout, other.retransmits
			}
		}
	}
	if chance(r, 0.25) {
		for range 1 + r.IntN(3) {
			d.from = append(d.from, pick(r, blocks).draw(r))
		}
	}
	return d
}

// first returns the first knocks of a door's sequences.
func (d *doorPlan) first() (all []string) {
	for _, sequence := range [][]string{d.sequence, d.close} {
		if len(sequence) > 0 {
			all = append(all, sequence[0])
		}
	}
	return all
}

// text returns the policy as YAML.
func (p *plan) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	list := func(all []string) string { return "[" + strings.Join(all, ", ") + "]" }
	line("version: 1")
	line("posture: %s", p.posture)
	line("cover: %s", p.cover)
	line("early_drop: %t", p.early)
	if len(p.interfaces) > 0 {
		line("interfaces: %s", list(p.interfaces))
	}
	if len(p.allow) > 0 {
		line("allow:")
		for _, a := range p.allow {
			line("  - %s", a)
		}
	}
	if len(p.users) > 0 {
		line("keys: {port: %s, address: %s}", keyPort, p.bound)
		line("users:")
	}
	for _, u := range p.users {
		line("  %s:", u.name)
		line("    devices: %s", list(u.devices))
		if len(u.networks) > 0 {
			line("    networks: %s", list(u.networks))
		}
		if u.until != "" {
			line("    until: %s", u.until)
		}
	}
	line("doors:")
	for _, d := range p.doors {
		line("  %s:", d.name)
		line("    service: %s", list(d.services))
		if d.address != "" {
			line("    address: %s", d.address)
		}
		var knock []string
		if len(d.keys) > 0 {
			knock = append(knock, "key: "+list(d.keys))
		}
		if len(d.sequence) > 0 {
			knock = append(knock, "sequence: "+list(d.sequence), "step_timeout: "+d.stepTimeout, "retransmits: "+d.retransmits)
			if len(d.close) > 0 {
				knock = append(knock, "close: "+list(d.close))
			}
		}
		line("    knock: {%s}", strings.Join(knock, ", "))
		line("    open_for: %s", d.openFor)
		line("    admit: %s", d.admit)
		line("    forfeit: %t", d.forfeit)
		if len(d.keys) > 0 || len(d.sequence) > 0 && len(d.close) > 0 {
			line("    on_close: %s", d.onClose)
		}
		if len(d.from) > 0 {
			line("    from: %s", list(d.from))
		}
	}
	if p.marked {
		line("admitted: {mark: %s}", mark)
	}
	line("source: {ipv4: %d, ipv6: %d}", p.ipv4, p.ipv6)
	line("log: %s", p.log)
	return b.String()
}

// A block is the addresses of one scenario: three adjacent /24, two adjacent /64 and
// a third in the adjacent /48. No other scenario uses them, nor one of the /48.
type block int

// networks is how many networks of each family a block has.
const networks = 3

// The networks of all blocks.
var (
	sources4 = netip.MustParsePrefix("10.0.0.0/8")
	sources6 = netip.MustParsePrefix("2001:db8:8000::/33")
)

// addr returns an address of one of the block's networks.
func (b block) addr(v6 bool, network int, host byte) netip.Addr {
	if !v6 {
		n := uint16(int(b)*4 + network)
		a := sources4.Addr().As4()
		a[1], a[2], a[3] = byte(n>>8), byte(n), host
		return netip.AddrFrom4(a)
	}
	n := uint16(int(b)*2 + network/2)
	a := sources6.Addr().As16()
	a[4], a[5], a[7], a[15] = a[4]|byte(n>>8), byte(n), byte(network%2), host
	return netip.AddrFrom16(a)
}

// draw returns a network that contains some or all of the block, and perhaps
// others.
func (b block) draw(r *rand.Rand) string {
	v6 := chance(r, 0.5)
	addr := b.addr(v6, r.IntN(networks), byte(1+r.IntN(4)))
	bits := pick(r, []int{9, 17, 22, 23, 24, 30, 31, 32})
	if v6 {
		bits = pick(r, []int{34, 41, 46, 47, 48, 63, 64, 126, 127, 128})
	}
	if bits == addr.BitLen() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}
