// Package automaton compiles a policy to the state machine that judges knocks.
// It also runs that machine as the reference that every firewall is tested
// against.
//
// # The machine
//
// A state is the progress of one source; Root is no progress. An input is one
// packet that would open a new connection to this host, that no allow entry of the
// policy matches, and that is not for the port of keys: a pure TCP SYN, a UDP datagram or an ICMP echo request
// that belongs to no known flow. For each input, the first rule that matches:
//
//  1. The same packet was admitted before (a SYN that the client's system
//     retransmits): it is admitted, and nothing changes.
//  2. The source holds a grant for the service addressed: it is admitted, and
//     with `admit: one` the grant is used up. (With `admit: any` it admits any
//     number of connections up to a rate.) Progress stays as it is. Where
//     several doors open the service, each has grants of its own; the one with
//     the shortest open_for is used first.
//  3. The source's budget of attempts is spent: its progress is forgotten, as by a
//     wrong port. Every input that comes here takes one from it. (SYNs and datagrams to
//     ports behind which there is nothing may have a budget of their own: see Machine.Early.)
//  4. The source's state has an edge for the port: it moves there. At the last
//     knock of a door it gets the door's grants and its progress is forgotten. At
//     the last knock that closes a door it loses the door's grants.
//  5. Otherwise its progress is forgotten. If root has an edge for the port, it
//     moves there.
//  6. What is not admitted gets the policy's cover, whatever its progress.
//
// The doors' sequences form a trie: doors that begin alike share states, and
// every state has at most one edge for a port. Two more features are edges too.
// With `retransmits: ignore` a state has a loop for every port already knocked
// and for the services of the doors it leads to: the source stays in the state,
// for the whole of its time again. With `forfeit`, any input that is not
// admitted costs the source its grants. Such a door keeps the source in a state
// of its own for one more step_timeout after the last knock. In that state,
// repeated knocks of the door cost nothing.
//
// # Closing
//
// The sequence that closes a door is a part of the trie like that which opens it. With
// `on_close: cut` the source's connections to the door's services end as well: those that
// were let in before by anything but an allow entry (see Reference.Ended). A service that
// several doors open has one on_close.
//
// # Keys
//
// A door may be opened by keys, too, or by keys alone. A token is a packet made with
// the key of one device. It is no input, and neither is any other packet to the port
// that tokens arrive at. (Datagrams there that have no right token take from a budget with
// those that Machine.Early reports; over it, they too cost their source its progress.) Who
// made a token, for which door, when, and that it is new,
// is for others to verify; the machine says who there is (see Token), and what a
// verified token does: if the user's networks have its sender, the same as the last
// knock of its door, or as that which closes it. It takes nothing from the budget of attempts, and costs no grant.
//
// # Stable names
//
// Firewalls keep the progress and the grants of sources while a policy is
// replaced. So states and grants are named by a hash of what they are (see
// id.go). A running number could mean something else in the next policy. What a
// grant is called covers all that decides who gets it and what it opens. So a
// grant that no door gives any more has a name that the new machine does not
// know: it admits nobody, and nobody has to find and delete it.
//
// The package is pure: it opens no socket and reads no clock.
package automaton

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/policy"
)

// AdmittedFor is how long an admitted packet is recognized when it is sent
// again. Linux retransmits a SYN after 1, 3, 7, 15, 31 and 63 seconds
// (tcp_syn_retries is 6), so this covers the whole first connection attempt.
const AdmittedFor = 70 * time.Second

// A Budget is a rate limit: Burst events at once after a pause, and Rate events
// a second in the long run.
type Budget struct {
	Rate, Burst int
	Buckets     int // how many buckets all sources may share; 0: each source has its own
}

// Attempts limits how many inputs of one source count. Every input takes one, not
// only first knocks: a firewall then does the same work for a first knock as for a
// wrong port, and the time of an answer does not tell them apart. Six clients behind
// one address can still make three knocks each at once. A client that opens one door
// at a time does not reach the limit.
var Attempts = Budget{Rate: 10, Burst: 20, Buckets: 32768}

// FirstKnocks limits the first knocks of one source, where only these are counted.
// Other inputs count without end.
var FirstKnocks = Budget{Rate: 10, Burst: 20}

// AttemptPrefix returns the addresses that share a budget of attempts with addr. Of
// IPv6 that is a /48, or what the policy takes for one source where that is more: a
// site has a /48 at most (RFC 6177), and each of its addresses may be the same
// sender's.
func AttemptPrefix(s policy.Source, addr netip.Addr) netip.Prefix {
	const site = 48
	s.IPv6 = min(s.IPv6, site)
	return s.Prefix(addr)
}

// Connections limits the new connections that one `admit: any` grant admits. It
// is far more than a browser opens. Each connection is remembered for
// AdmittedFor. Without a limit, one client, or anyone who forges its address,
// could fill that memory and lock everybody out.
var Connections = Budget{Rate: 100, Burst: 200}

// Parameters are what the rules of the package comment leave open: which
// packets a firewall can recognize, and what it limits. Compile uses Exact; a
// firewall that works differently sets its own.
type Parameters struct {
	Inputs      Inputs
	Known       Known
	Attempts    Budget // the zero value: no limit
	Counted     Counted
	Early       bool   // what Machine.Early reports has a budget of attempts of its own: SYNs,
	EarlyUDP    bool   // and datagrams
	Connections Budget // the zero value: no limit
}

// Exact are the parameters that the package comment describes.
var Exact = Parameters{Inputs: NewConnections, Known: SameSYN, Attempts: Attempts, Connections: Connections}

// Inputs says which packets that belong to no known flow are inputs.
type Inputs int

const (
	NewConnections Inputs = iota // packets that open a connection; for TCP, a pure SYN
	AnyPacket                    // any packet, as in the classic iptables recipe
)

// Known says which packets belong to a flow that was let in, and so are not
// inputs. For UDP and ICMP, connection tracking always decides; with SameSYN,
// only flows that it has confirmed count.
type Known int

const (
	// SameSYN: TCP is judged before connection tracking. Rule 1 recognizes an
	// admitted SYN by its sequence number; no other TCP packet is known.
	SameSYN Known = iota
	// Confirmed: any packet with the addresses and ports of one that was let
	// in.
	Confirmed
	// Answered: as Confirmed, but only once this host has answered.
	Answered
)

// Counted says which inputs take from the budget of attempts, and count no more when
// it is spent.
type Counted int

const (
	EveryInput Counted = iota // all that are not admitted
	OnlyFirst                 // first knocks: rule 3 is part of rule 5
)

// A StateID identifies a state across policies.
type StateID uint32

// Root is the state of a source with no progress.
const Root StateID = 0

// A GrantID identifies across policies what one door grants for one of its
// services. It is never 0.
type GrantID uint32

// A ServiceID identifies across policies a service, whichever doors open it. It is never 0.
type ServiceID uint32

// A Machine is a compiled policy. The order of its slices depends only on the
// policy's text.
type Machine struct {
	Policy     *policy.Policy
	Parameters Parameters
	Doors      []Door
	States     []State   // without Root; a state comes after the one it is reached from
	Edges      []Edge    // without loops; in the order of the states they start from
	Services   []Service // in the order in which doors first name them
	Grants     []Grant   // in the order of the doors and of their services
	Tokens     []Token   // in the order of the doors, of their users, and of their devices

	// Keys reads the secrets of the devices of Tokens. It is not of the policy: whoever has
	// the machine loaded sets it, and who loads it calls Keyring.
	Keys func() (Keyring, error)
	// Secret is what decoys follow from, and known to this host alone. It is not of the policy
	// either: who has the machine loaded sets it. Without it there are no decoys.
	Secret []byte

	states  map[StateID]*State
	edges   map[input]*Edge
	loops   map[input]bool
	service map[serviceKey]*Service
	hidden  map[policy.Port]bool // the ports of services
	grants  map[GrantID]*Grant
	tokens  map[tokenKey]*Token

	forfeited []GrantID // what a stray packet costs
}

// A State is the progress of a source that has knocked at least once.
type State struct {
	ID      StateID
	Path    []policy.Port // the knocks that lead here
	Opened  bool          // the last knock of Path has just opened its door
	Timeout time.Duration // how long the source may stay here
	Loops   []policy.Port // inputs that leave the source here, for the whole Timeout again
}

// Begins reports whether the state is on the way of a sequence.
func (s *State) Begins(sequence []policy.Port) bool {
	return len(s.Path) <= len(sequence) && slices.Equal(sequence[:len(s.Path)], s.Path)
}

// An Edge is a transition on one input.
type Edge struct {
	From        StateID
	On          policy.Port
	To          StateID // Root, or the door's Opened state, after a last knock
	Door        int     // the index of the door that this last knock opens or closes; -1 for another knock
	Closes      bool    // it closes it
	KeepsGrants bool    // this input costs no grant, whatever forfeit says
}

// A Door is a policy's door with its services resolved.
type Door struct {
	*policy.Door
	Services []int // indices in Machine.Services
	Grants   []int // the grant for each of these: indices in Machine.Grants
}

// A Grant is what the last knock at a door gives for one of its services.
type Grant struct {
	ID            GrantID
	Door, Service int // indices in Machine.Doors and Machine.Services
}

// A Service is a hidden service that a grant opens. Several doors may lead to
// it; the policy makes sure that they agree on all fields.
type Service struct {
	ID         ServiceID
	Grants     []int // of the doors that open it, in the order of use: indices in Machine.Grants
	Port       policy.Port
	Address    netip.Addr     // the local address; the zero value: any
	Forward    netip.AddrPort // the host behind this one; the zero value: on this host
	Masquerade bool
	Admit      policy.Admit
	Forfeit    bool
	OnClose    policy.OnClose
}

// String returns the service as in a policy, with what distinguishes it from
// others on the same port: "tcp/22", "tcp/22 on 192.0.2.1", "tcp/443 to
// 10.0.0.5:8443".
func (s *Service) String() string {
	text := s.Port.String()
	if s.Address.IsValid() {
		text += " on " + s.Address.String()
	}
	if s.Forward.IsValid() {
		text += " to " + s.Forward.String()
	}
	return text
}

// input is a state and the port that is knocked in it.
type input struct {
	state StateID
	port  policy.Port
}

// serviceKey is the destination of a packet; address is the zero value for a
// service on any local address.
type serviceKey struct {
	port    policy.Port
	address netip.Addr
}

// node is a state while the trie is built; id is set at the end.
type node struct {
	path     []policy.Port
	opened   bool
	timeout  time.Duration
	ignore   bool
	services []policy.Port // of all doors that the node leads to
	children []*node
	on       policy.Port // the knock that leads here
	door     int         // at a leaf: the door; -1 elsewhere
	closes   bool        // at a leaf: it closes the door
	after    *node       // at a leaf: the opened state, if it has one
	id       StateID
}

// Compile returns the machine of a policy, with Exact parameters. It fails only
// if the names of two states or grants cannot be told apart, which takes a
// policy built for that purpose (see id.go).
func Compile(p *policy.Policy) (*Machine, error) {
	m := &Machine{Policy: p, Parameters: Exact}
	if err := m.compileServices(); err != nil {
		return nil, err
	}
	if err := m.compileGrants(); err != nil {
		return nil, err
	}
	m.compileTokens()
	root := &node{door: -1}
	for i := range p.Doors {
		d := &p.Doors[i]
		if len(d.Knock.Sequence) > 0 {
			n := root.add(d, d.Knock.Sequence)
			n.door = i
			n.leadOn(d)
		}
		if len(d.Knock.Close) > 0 {
			n := root.add(d, d.Knock.Close)
			n.door, n.closes = i, true
		}
	}
	nodes := root.all(nil)
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.name()
	}
	ids, err := identify(names)
	if err != nil {
		return nil, fmt.Errorf("naming the states: %w", err)
	}
	for i, n := range nodes {
		n.id = StateID(ids[i])
	}
	m.collect(root, nodes)
	m.index()
	return m, nil
}

// compileServices fills Services and Doors.
func (m *Machine) compileServices() error {
	seen := map[serviceKey]int{}
	for i := range m.Policy.Doors {
		d := &m.Policy.Doors[i]
		door := Door{Door: d}
		for _, port := range d.Services {
			key := serviceKey{port, d.Address}
			at, ok := seen[key]
			if !ok {
				at = len(m.Services)
				seen[key] = at
				s := Service{
					Port: port, Address: d.Address, Forward: d.Forward,
					Masquerade: d.Masquerade, Admit: d.Admit, Forfeit: d.Forfeit, OnClose: d.OnClose,
				}
				m.Services = append(m.Services, s)
			}
			door.Services = append(door.Services, at)
		}
		m.Doors = append(m.Doors, door)
	}
	names := make([]string, len(m.Services))
	for i := range m.Services {
		names[i] = "service " + m.Services[i].String()
	}
	ids, err := identify(names)
	if err != nil {
		return fmt.Errorf("naming the services: %w", err)
	}
	for i := range m.Services {
		m.Services[i].ID = ServiceID(ids[i])
	}
	return nil
}

// compileGrants fills Grants.
func (m *Machine) compileGrants() error {
	var names []string
	for i := range m.Doors {
		d := &m.Doors[i]
		for _, service := range d.Services {
			s, at := &m.Services[service], len(m.Grants)
			m.Grants = append(m.Grants, Grant{Door: i, Service: service})
			d.Grants, s.Grants = append(d.Grants, at), append(s.Grants, at)
			names = append(names, m.grantName(d, s))
		}
	}
	ids, err := identify(names)
	if err != nil {
		return fmt.Errorf("naming the grants: %w", err)
	}
	for i := range m.Grants {
		m.Grants[i].ID = GrantID(ids[i])
	}
	for i := range m.Services {
		// Not in the order of the doors, which means nothing else either.
		slices.SortFunc(m.Services[i].Grants, func(a, b int) int {
			ga, gb := &m.Grants[a], &m.Grants[b]
			return cmp.Or(cmp.Compare(m.Doors[ga.Door].OpenFor, m.Doors[gb.Door].OpenFor), cmp.Compare(ga.ID, gb.ID))
		})
	}
	return nil
}

// grantName returns everything that a grant depends on, for its hash: what it
// opens, how it is earned, and what one source is. A door is known by its
// knocks, as states are, and not by its name; one without knocks has but that. Whose
// keys open it is no part of the name: adding a user costs the others nothing.
func (m *Machine) grantName(d *Door, s *Service) string {
	by := fmt.Sprint(d.Knock.Sequence)
	if len(d.Knock.Sequence) == 0 {
		by = "keys of " + d.Name
	}
	return fmt.Sprintf("grant of %s by %s for %v admitting %s forfeit %v from %v source %v",
		s, by, d.OpenFor, s.Admit, s.Forfeit, d.From, m.Policy.Source)
}

// add adds a sequence of a door to the trie, and returns its leaf.
func (n *node) add(d *policy.Door, sequence []policy.Port) *node {
	knock := &d.Knock
	for i, port := range sequence {
		at := slices.IndexFunc(n.children, func(c *node) bool { return c.on == port })
		if at < 0 || i == len(sequence)-1 {
			n.children = append(n.children, &node{
				path:    sequence[:i+1],
				timeout: knock.StepTimeout,
				ignore:  knock.Retransmits == policy.RetransmitsIgnore,
				on:      port,
				door:    -1,
			})
			at = len(n.children) - 1
		}
		n = n.children[at]
		for _, service := range d.Services {
			if !slices.Contains(n.services, service) {
				n.services = append(n.services, service)
			}
		}
	}
	return n
}

// leadOn gives the leaf where a door opens its opened state, if the door has one.
func (n *node) leadOn(d *policy.Door) {
	if d.Forfeit && n.ignore {
		n.after = &node{
			path: n.path, opened: true, timeout: n.timeout, ignore: true,
			services: n.services, door: -1,
		}
	}
}

// all appends the nodes that are states: inner nodes, and the opened states
// after leaves. A leaf itself leaves no progress.
func (n *node) all(nodes []*node) []*node {
	if n.door >= 0 {
		if n.after != nil {
			nodes = append(nodes, n.after)
		}
		return nodes
	}
	if len(n.path) > 0 {
		nodes = append(nodes, n)
	}
	for _, c := range n.children {
		nodes = c.all(nodes)
	}
	return nodes
}

// name returns everything that the meaning of the state depends on, for its
// hash.
func (n *node) name() string {
	var b strings.Builder
	b.WriteString("state")
	if n.opened {
		b.WriteString(" opened")
	}
	for _, port := range n.path {
		b.WriteByte(' ')
		b.WriteString(port.String())
	}
	fmt.Fprintf(&b, " within %v ignoring %v", n.timeout, n.ignore)
	return b.String()
}

// collect fills States and Edges.
func (m *Machine) collect(root *node, nodes []*node) {
	first := map[policy.Port]*node{} // root's children, where opened states lead
	for _, c := range root.children {
		first[c.on] = c
	}
	edges := func(n *node, children []*node) {
		for _, c := range children {
			e := Edge{From: n.id, On: c.on, To: c.id, Door: c.door, Closes: c.closes, KeepsGrants: n.opened}
			if c.after != nil {
				e.To = c.after.id
			}
			m.Edges = append(m.Edges, e)
		}
	}
	edges(root, root.children)
	for _, n := range nodes {
		children := n.children
		if n.opened {
			// The first knock begins again and costs no grant: it may be the
			// client's next knock or a retransmission.
			children = []*node{first[n.path[0]]}
		}
		s := State{ID: n.id, Path: n.path, Opened: n.opened, Timeout: n.timeout}
		if n.ignore {
			for _, port := range slices.Concat(n.path, n.services) {
				forward := slices.ContainsFunc(children, func(c *node) bool { return c.on == port })
				if !forward && !slices.Contains(s.Loops, port) {
					s.Loops = append(s.Loops, port)
				}
			}
		}
		m.States = append(m.States, s)
		edges(n, children)
	}
}

// index builds the maps for Step.
func (m *Machine) index() {
	m.states = make(map[StateID]*State, len(m.States))
	m.edges = make(map[input]*Edge, len(m.Edges))
	m.loops = make(map[input]bool)
	m.service = make(map[serviceKey]*Service, len(m.Services))
	m.hidden = make(map[policy.Port]bool, len(m.Services))
	m.grants = make(map[GrantID]*Grant, len(m.Grants))
	m.tokens = make(map[tokenKey]*Token, len(m.Tokens))
	for i := range m.States {
		s := &m.States[i]
		m.states[s.ID] = s
		for _, port := range s.Loops {
			m.loops[input{s.ID, port}] = true
		}
	}
	for i := range m.Edges {
		e := &m.Edges[i]
		m.edges[input{e.From, e.On}] = e
	}
	for i := range m.Services {
		s := &m.Services[i]
		m.service[serviceKey{s.Port, s.Address}] = s
		m.hidden[s.Port] = true
	}
	for i := range m.Grants {
		g := &m.Grants[i]
		m.grants[g.ID] = g
		if m.Services[g.Service].Forfeit {
			m.forfeited = append(m.forfeited, g.ID)
		}
	}
	for i := range m.Tokens {
		t := &m.Tokens[i]
		m.tokens[tokenKey{t.Name(), m.Doors[t.Door].Name}] = t
	}
}

// Early reports whether a packet that opens a connection to a port is of those that are
// counted apart from all others. A firewall can count them before its rules are asked: SYNs
// and datagrams to ports that hide no service and that no allow entry names, so that nobody
// who sends them is let in. Of the ports of keys UDP's is one of these, and TCP's is not. The
// ports of DHCP's clients are not, as their answers may come unasked.
func (m *Machine) Early(port policy.Port) bool {
	switch {
	case port.Protocol == policy.TCP && m.Parameters.Early && !m.Policy.IsKeyPort(port):
	case port.Protocol == policy.UDP && m.Parameters.EarlyUDP && !port.IsDHCPClient():
	default:
		return false
	}
	return !m.hidden[port] &&
		!slices.ContainsFunc(m.Policy.Allow, func(a policy.Allow) bool {
			return a.Service.Covers(port)
		})
}

// Silent reports whether no port answers a stranger, and no wrong one costs a grant.
func (m *Machine) Silent() bool {
	return !m.Policy.Answers() && !slices.ContainsFunc(m.Services, func(s Service) bool { return s.Forfeit })
}

// NotedFor returns how long a first knock of TCP counts that a firewall may note before its
// rules see it: that means no more than that its source is in another state until then. It is 0
// where one opens or closes a door, and where they count for different times.
func (m *Machine) NotedFor() (lasts time.Duration) {
	for i := range m.Edges {
		e := &m.Edges[i]
		if e.From != Root || e.On.Protocol != policy.TCP {
			continue
		}
		if e.Door >= 0 {
			return 0
		}
		timeout := m.State(e.To).Timeout
		if lasts != 0 && lasts != timeout {
			return 0
		}
		lasts = timeout
	}
	return lasts
}

// Renews reports whether a first knock of TCP that comes again at once means only that its time
// begins again: it is the second one of no door.
func (m *Machine) Renews() bool {
	return !slices.ContainsFunc(m.Edges, func(e Edge) bool {
		from := m.State(e.From)
		return from != nil && len(from.Path) == 1 && e.On == from.Path[0]
	})
}

// Patience returns how long a source may stay in any state.
func (m *Machine) Patience() time.Duration {
	var longest time.Duration
	for i := range m.States {
		longest = max(longest, m.States[i].Timeout)
	}
	return longest
}

// State returns the state with the id, or nil for Root and for ids of other
// machines.
func (m *Machine) State(id StateID) *State { return m.states[id] }

// Grant returns the grant with the id, or nil for ids of other machines.
func (m *Machine) Grant(id GrantID) *Grant { return m.grants[id] }

// ServiceAt returns the service at a local address and port, or nil.
func (m *Machine) ServiceAt(dest netip.Addr, port policy.Port) *Service {
	if s := m.service[serviceKey{port, dest.Unmap()}]; s != nil {
		return s
	}
	return m.service[serviceKey{port: port}]
}
