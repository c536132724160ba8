//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/paragraph"
	"postern/internal/policy"
	"postern/internal/preflight"
)

// outside scans a copy of this host.
func outside(ctx context.Context, m *automaton.Machine, b firewall.Backend) []Entry {
	scan := Entry{Topic: preflight.Topic{Name: "a scan from outside"}}
	var doors Entry
	c := &replica{Lab: lab.New()}
	defer c.Close()
	keys := newKeys(m, b)
	err := c.build(ctx, keys.machine, b)
	if err == nil {
		if targets := c.targets(m.Policy); len(targets) > 0 {
			if err = c.scan(m, targets, &scan); err == nil {
				doors, err = c.doors(m, targets, keys)
			}
		} else {
			err = errors.New("no interface that the policy is for has an address that others could reach")
		}
	}
	if err != nil {
		scan.Seen = "not made"
		scan.Findings = append(scan.Findings, preflight.Finding{
			Kind: ScanIncomplete, Severity: preflight.Note,
			Message: "a copy of this host was not scanned from outside: " + reason(err),
			Hints:   []string{"the copy is made of network namespaces; the host's own network is left alone"},
		})
		return []Entry{scan}
	}
	if len(c.missing) > 0 {
		scan.Findings = append(scan.Findings, preflight.Finding{
			Kind: ScanIncomplete, Severity: preflight.Note,
			Message: fmt.Sprintf("the copy that was scanned lacks %s", paragraph.List(c.missing)),
			Hints:   []string{"what the scan sees may differ there: scan this host from another one as well"},
		})
	}
	return []Entry{scan, doors}
}

// reason says why something could not be looked at.
func reason(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "that needs root"
	}
	return err.Error()
}

// targets returns the addresses that are scanned: of each interface that the policy is
// for, the first of each family.
func (c *replica) targets(p *policy.Policy) []*target {
	var all []*target
	for i := range c.links {
		l := &c.links[i]
		if l.wire == nil || len(p.Interfaces) > 0 && !slices.Contains(p.Interfaces, l.name) {
			continue
		}
		for _, is4 := range []bool{true, false} {
			if at := slices.IndexFunc(l.addresses, func(a netip.Addr) bool { return a.Is4() == is4 }); at >= 0 {
				all = append(all, &target{replica: c, link: l, to: l.addresses[at]})
			}
		}
	}
	return all[:min(len(all), mostTargets)]
}

// mostTargets bounds what is scanned.
const mostTargets = 8

func (c *replica) scan(m *automaton.Machine, targets []*target, scan *Entry) error {
	for _, t := range targets {
		line, found, err := t.scan(m)
		if err != nil {
			return err
		}
		scan.Lines, scan.Findings = append(scan.Lines, line), append(scan.Findings, found...)
	}
	scan.Seen = "hidden ports look like unused ones"
	if len(scan.Findings) > 0 {
		scan.Seen = "hidden ports can be spotted"
	}
	return nil
}

// scan probes all ports of TCP, what matters of UDP, and echo. The line says what
// is seen.
func (t *target) scan(m *automaton.Machine) (line string, found []preflight.Finding, err error) {
	from := t.stranger(1)
	listening := map[policy.Port]bool{}
	for _, p := range t.listening {
		listening[p] = true
	}
	hidden := map[policy.Port]string{} // and why
	for i := range m.Doors {
		for _, p := range m.Doors[i].Knock.Sequence {
			if !listening[p] { // which is another finding
				hidden[p] = "a knock"
			}
		}
	}
	for i := range m.Services {
		if p := m.Services[i].Port; m.ServiceAt(t.to, p) != nil {
			hidden[p] = "a hidden service"
		}
	}
	tcp, err := t.sweep(from)
	if err != nil {
		return "", nil, err
	}
	seen := map[answer]int{}
	var open []string
	for port, a := range tcp {
		p := policy.Port{Protocol: policy.TCP, Number: uint16(port)}
		if port == 0 || hidden[p] != "" {
			continue
		}
		seen[a]++
		if a == synAck {
			open = append(open, p.String())
		}
	}
	idle := mostCommon(seen)
	udpPorts, udp, admitted, err := t.udp(from, hidden, listening)
	if err != nil {
		return "", nil, err
	}
	for _, p := range slices.SortedFunc(maps.Keys(hidden), comparePorts) {
		switch {
		case p.Protocol == policy.TCP && tcp[p.Number] != idle:
			found = append(found, t.spotted(p, hidden[p], tcp[p.Number], idle))
		case p.Protocol == policy.UDP && admitted[p]:
			found = append(found, t.spotted(p, hidden[p], "a program that receives", udp[udpPorts[0]]))
		case p.Protocol == policy.UDP && udp[p] != udp[udpPorts[0]]:
			found = append(found, t.spotted(p, hidden[p], udp[p], udp[udpPorts[0]]))
		}
	}
	ping, err := t.ask(t.opening(from, policy.Port{Protocol: policy.ICMP}))
	if err != nil {
		return "", nil, err
	}
	for _, p := range udpPorts {
		if admitted[p] && hidden[p] == "" {
			open = append(open, p.String())
		}
	}
	what := "nothing is open"
	if len(open) > 0 {
		what = "open to everyone: " + paragraph.List(open)
	}
	return fmt.Sprintf("%s (%s): %s; unused ports of TCP: %s, of UDP: %s; ping: %s",
		t.to, t.link.name, what, idle, udp[udpPorts[0]], ping[0]), found, nil
}

func comparePorts(a, b policy.Port) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
}

func mostCommon(seen map[answer]int) answer {
	best := silence
	for a, n := range seen {
		if n > seen[best] {
			best = a
		}
	}
	return best
}

// spotted is about a hidden port that does not look like an unused one.
func (t *target) spotted(p policy.Port, why string, a, idle answer) preflight.Finding {
	f := preflight.Finding{
		Kind: HiddenPortAnswers, Severity: preflight.Warning,
		Message: fmt.Sprintf("a scan of %s gets %s from %s, which is %s, and %s from unused ports: it can be spotted", t.to, a, p, why, idle),
		Hints:   []string{"have both answer alike: see \"cover\" in docs/policy.md, and what other rules answer"},
		Where:   preflight.Place{Interface: t.link.name},
	}
	if a == synAck || a == "a program that receives" {
		f.Severity = preflight.Error
		f.Message = fmt.Sprintf("a scan of %s reaches %s without a knock", t.to, p)
		f.Hints = []string{"look at what allow lists, and at other rules that send packets elsewhere before Postern's see them"}
	}
	return f
}

// sweep sends a SYN to each port, in order, and returns the answers by port.
func (t *target) sweep(from netip.Addr) ([]answer, error) {
	const batch = 4096
	all := make([]answer, 1<<16)
	for first := 1; first < len(all); first += batch {
		var packets []*packet.Packet
		for port := first; port < min(first+batch, len(all)); port++ {
			packets = append(packets, t.opening(from, policy.Port{Protocol: policy.TCP, Number: uint16(port)}))
		}
		answers, err := t.ask(packets...)
		if err != nil {
			return nil, err
		}
		all = slices.Replace(all, first, first+len(answers), answers...)
	}
	return all, nil
}

// udp asks the hidden ports, those with programs, and some with none, the first of
// which is the first one that is returned.
func (t *target) udp(from netip.Addr, hidden map[policy.Port]string, listening map[policy.Port]bool) (ports []policy.Port, answers map[policy.Port]answer, admitted map[policy.Port]bool, err error) {
	for n := uint16(33434); len(ports) < 1; n++ { // as traceroute does
		if p := (policy.Port{Protocol: policy.UDP, Number: n}); hidden[p] == "" && !listening[p] {
			ports = append(ports, p)
		}
	}
	all := slices.AppendSeq(slices.Collect(maps.Keys(hidden)), maps.Keys(listening))
	slices.SortFunc(all, comparePorts)
	for _, p := range slices.Compact(all) {
		if p.Protocol == policy.UDP {
			ports = append(ports, p)
		}
	}
	answers, admitted = map[policy.Port]answer{}, map[policy.Port]bool{}
	for _, p := range ports {
		probe := t.opening(from, p)
		got, err := t.ask(probe)
		if err != nil {
			return nil, nil, nil, err
		}
		answers[p] = got[0]
		if admitted[p], err = t.received(probe); err != nil {
			return nil, nil, nil, err
		}
		admitted[p] = admitted[p] && (listening[p] || hidden[p] == "a hidden service")
	}
	return ports, answers, admitted, nil
}

// firstCPU returns one that this process may use.
func firstCPU() (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, err
	}
	for cpu := 0; ; cpu++ {
		if set.IsSet(cpu) {
			return cpu, nil
		}
	}
}
