// Package automaton compiles a policy to the machine that decides about knocks,
// and runs that machine as the reference which every firewall is tested against.
//
// # The machine
//
// A state is the progress of one source. Root means that it has none. An input
// is one packet that would open a new connection to this host and that the
// policy does not allow anyway: a pure TCP SYN, a UDP datagram or an ICMP echo
// request of no known flow. For each input, in this order:
//
//  1. The same packet was admitted before (a SYN that the client's system sent
//     again): it is admitted, and nothing changes.
//  2. The source holds a grant for the service addressed: it is admitted, and
//     with `admit: one` the grant is used up. (With `admit: any` it is good for
//     any number but a flood.) Progress stays as it is.
//  3. The source's state has an edge for the port: it moves there. At the last
//     knock of a door it gets the door's grants and its progress is forgotten.
//  4. Otherwise its progress is forgotten. If root has an edge for the port and
//     the source's budget of first knocks is not spent, it moves there.
//  5. What is not admitted is covered, in a way that never depends on progress.
//
// The doors' sequences form a trie, so that doors which begin alike share
// states and every state has at most one edge for a port. Two more things are
// edges too. With `retransmits: ignore` a state has a loop for every port
// already knocked and for the services of the doors it leads to: the source
// stays, and so does its deadline. And a door with `forfeit`, under which any
// input that is not admitted loses the source's grants, keeps the source in a
// state of its own for one more step_timeout, in which its own knocks cost it
// nothing when they come again.
//
// # Names that last
//
// Firewalls keep the progress and the grants of sources while a policy is
// replaced. So states and services are named by a hash of what they are (see
// id.go), never by a number that another policy could give to something else.
//
// The package is pure: it knows no socket and no clock.
package automaton

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/policy"
)

// AdmittedFor is how long an admitted packet is known again. Linux sends a SYN
// again after 1, 3, 7, 15, 31 and 63 seconds (tcp_syn_retries is 6), so that
// this covers the first connection attempt whole.
const AdmittedFor = 70 * time.Second

// A Budget bounds how often something may be done: Burst times at once, after a
// pause, and Rate times a second over time.
type Budget struct {
	Rate, Burst int
	Buckets     int // how many buckets a firewall may share among all sources; 0: each has its own
}

// FirstKnocks is how many first knocks a source may make. It keeps one that knocks
// and resets in a loop cheap, and lets in twenty clients behind
// one address at once; a single client never comes near it.
var FirstKnocks = Budget{Rate: 10, Burst: 20, Buckets: 65536}

// Connections is how many new connections one `admit: any` grant lets in. It is
// far more than a browser opens. Each is remembered for AdmittedFor, and without a
// bound one guest, or whoever forges its address, could fill that memory and so
// shut every door.
var Connections = Budget{Rate: 100, Burst: 200}

// Parameters are what the rules of the package comment leave open: what of a
// packet a firewall can tell, and what it bounds. Compile gives Exact ones; a
// firewall that works otherwise says how.
type Parameters struct {
	Inputs      Inputs
	Known       Known
	FirstKnocks Budget // the zero value: there is no bound
	Connections Budget // the same
}

// Exact are the parameters that the package comment describes.
var Exact = Parameters{Inputs: NewConnections, Known: SameSYN, FirstKnocks: FirstKnocks, Connections: Connections}

// Inputs says which packets of no known flow are inputs.
type Inputs int

const (
	NewConnections Inputs = iota // those that open a connection: of TCP, a pure SYN
	AnyPacket                    // all, as in the classic iptables recipe
)

// Known says which packets are part of a flow that was let in, and so no inputs.
// Of UDP and ICMP it is always those that connection tracking calls so; with
// SameSYN these are the flows that it has confirmed.
type Known int

const (
	// SameSYN: TCP is judged ahead of connection tracking. Rule 1 knows an
	// admitted SYN by its sequence number, too, and nothing else.
	SameSYN Known = iota
	// Confirmed: any packet with the addresses and ports of one that was let in.
	Confirmed
	// Answered: the same, once this host has answered.
	Answered
)

// A StateID names a state across policies; Root is the state of a source that
// has not knocked.
type StateID uint32

// Root is the state of a source with no progress.
const Root StateID = 0

// A ServiceID names a service across policies. It is never 0.
type ServiceID uint32

// A Machine is what a policy's doors compile to. All its slices have an order
// that depends on the policy's text alone.
type Machine struct {
	Policy     *policy.Policy
	Parameters Parameters
	Doors      []Door
	States     []State   // without Root; a state comes after the one it is reached from
	Edges      []Edge    // without loops; in the order of the states they start from
	Services   []Service // in the order in which doors first name them

	states  map[StateID]*State
	edges   map[input]*Edge
	loops   map[input]bool
	service map[serviceKey]*Service

	forfeited []ServiceID // what strays lose
}

// A State is the progress of a source that has knocked at least once.
type State struct {
	ID      StateID
	Path    []policy.Port // the knocks that lead here
	Opened  bool          // the door at the end of Path has been opened just now
	Timeout time.Duration // how long the source may stay
	Loops   []policy.Port // inputs that leave the source here, its deadline unchanged
}

// An Edge is a move on one input.
type Edge struct {
	From        StateID
	On          policy.Port
	To          StateID // Root, or the door's Opened state, after a last knock
	Door        int     // the index of the door that this last knock opens; -1 for another knock
	KeepsGrants bool    // this input loses no grant
}

// A Door is a policy's door with its services resolved.
type Door struct {
	*policy.Door
	Services []int // indices in Machine.Services
}

// A Service is something hidden that a grant opens. Several doors may lead to
// it; the policy makes sure that they agree on everything here.
type Service struct {
	ID         ServiceID
	Port       policy.Port
	Address    netip.Addr     // only on this local address; the zero value is any
	Forward    netip.AddrPort // where it really is; the zero value: on this host
	Masquerade bool
	Admit      policy.Admit
	Forfeit    bool
}

// String gives the service as a policy would write it, with what tells it from
// others on the same port: "tcp/22", "tcp/22 on 192.0.2.1", "tcp/443 to 10.0.0.5:8443".
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

// input is a state and what arrives in it.
type input struct {
	state StateID
	port  policy.Port
}

// serviceKey is what packets address; Addr is the zero value where any local
// address will do.
type serviceKey struct {
	port    policy.Port
	address netip.Addr
}

// node is a state while the trie grows; its names are given at the end.
type node struct {
	path     []policy.Port
	opened   bool
	timeout  time.Duration
	ignore   bool
	services []policy.Port // of all doors that it leads to
	children []*node
	on       policy.Port // the knock that leads here
	door     int         // at a leaf: the door; -1 elsewhere
	after    *node       // at a leaf: the opened state, if it has one
	id       StateID
}

// Compile turns a policy into its machine, with Exact parameters. It fails only when names cannot be
// told apart, which takes two policies built for it (see id.go).
func Compile(p *policy.Policy) (*Machine, error) {
	m := &Machine{Policy: p, Parameters: Exact}
	if err := m.compileServices(); err != nil {
		return nil, err
	}
	root := &node{door: -1}
	for i := range p.Doors {
		root.add(i, &p.Doors[i])
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
	var names []string
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
					Masquerade: d.Masquerade, Admit: d.Admit, Forfeit: d.Forfeit,
				}
				m.Services = append(m.Services, s)
				names = append(names, "service "+s.String())
			}
			door.Services = append(door.Services, at)
		}
		m.Doors = append(m.Doors, door)
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

// add grows the trie by one door.
func (n *node) add(index int, d *policy.Door) {
	knock := &d.Knock
	for i, port := range knock.Sequence {
		at := slices.IndexFunc(n.children, func(c *node) bool { return c.on == port })
		if at < 0 || i == len(knock.Sequence)-1 {
			n.children = append(n.children, &node{
				path:    knock.Sequence[:i+1],
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
	n.door = index
	if d.Forfeit && n.ignore {
		n.after = &node{
			path: n.path, opened: true, timeout: n.timeout, ignore: true,
			services: n.services, door: -1,
		}
	}
}

// all appends the nodes that are states: those on the way, not the leaves,
// which leave no progress behind, but the opened states after them.
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

// name is what the state is, for its hash: all that its meaning depends on.
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
	first := map[policy.Port]*node{} // root's children, where opened states lead on
	for _, c := range root.children {
		first[c.on] = c
	}
	edges := func(n *node, children []*node) {
		for _, c := range children {
			e := Edge{From: n.id, On: c.on, To: c.id, Door: c.door, KeepsGrants: n.opened}
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
			// The first knock begins anew, and costs no grant: it may be
			// the client's next knock or the last one's retransmission.
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

// index builds the maps that Step looks things up in.
func (m *Machine) index() {
	m.states = make(map[StateID]*State, len(m.States))
	m.edges = make(map[input]*Edge, len(m.Edges))
	m.loops = make(map[input]bool)
	m.service = make(map[serviceKey]*Service, len(m.Services))
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
		if s.Forfeit {
			m.forfeited = append(m.forfeited, s.ID)
		}
	}
}

// State gives a state by its name, and nil for Root and for names that are not
// of this machine.
func (m *Machine) State(id StateID) *State { return m.states[id] }

// Addressed gives the service that a packet to a local address and port asks
// for, or nil.
func (m *Machine) ServiceAt(dest netip.Addr, port policy.Port) *Service {
	if s := m.service[serviceKey{port, dest.Unmap()}]; s != nil {
		return s
	}
	return m.service[serviceKey{port: port}]
}
