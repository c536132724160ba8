package preflight

import (
	"fmt"
	"slices"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// SuggestedMark is the mark that a policy without one is advised to set. It is none
// of the bits that WireGuard's tools, Tailscale, Kubernetes, Calico's default and
// Docker's usual plugins use on packets that come in.
const SuggestedMark policy.Mark = 0x1000

// A Section is how one program's rules accept what doors admit, and nothing else.
type Section struct {
	Program string // "postern" (the policy), "ufw", "firewalld", "nftables" or "iptables"
	Steps   []Step // in order
}

// A Step is one thing to do.
type Step struct {
	Text  string   // where the lines go, or that they are commands to run
	Lines []string // to be taken as they are
}

// run is the text of a step whose lines are commands.
const run = "run"

// AcceptMarked returns, for each firewall, the exact lines by which it accepts the
// services of the machine's doors from those whom a door has admitted. Whenever
// Postern's rules are absent nothing carries the mark, and the services are shut. If
// the policy sets no mark, the first section is what to add to it.
func AcceptMarked(m *automaton.Machine) []Section {
	var all []Section
	a := acceptance{machine: m, mark: m.Policy.Admitted.Mark}
	if a.mark == 0 {
		a.mark = SuggestedMark
		all = append(all, Section{"postern", []Step{{"at the top level of the policy, before \"postern up\"", []string{policyLine}}}})
	}
	return append(all,
		Section{"ufw", a.ufw()},
		Section{"firewalld", a.firewalld()},
		Section{"nftables", a.nftables()},
		Section{"iptables", a.iptables()},
	)
}

// policyLine is what a policy without a mark needs.
var policyLine = fmt.Sprintf("admitted: {mark: %s}", SuggestedMark)

// An acceptance writes the sections.
type acceptance struct {
	machine *automaton.Machine
	mark    policy.Mark
}

// A path is how packets reach services.
type path struct{ is6, forwarded bool }

// has reports whether any service is reached by a path.
func (a acceptance) has(p path) bool {
	return slices.ContainsFunc(a.machine.Services, func(s automaton.Service) bool { return reached(&s, p) })
}

func reached(s *automaton.Service, p path) bool {
	if s.Forward.IsValid() != p.forwarded || s.Forward.IsValid() && s.Forward.Addr().Is6() != p.is6 {
		return false
	}
	return !s.Address.IsValid() || s.Address.Is6() == p.is6
}

// connmark is iptables' match of marked connections.
func (a acceptance) connmark() string { return fmt.Sprintf("-m connmark --mark %s/%s", a.mark, a.mark) }

func (a acceptance) ufw() []Step {
	var steps []Step
	for _, is6 := range []bool{false, true} {
		file, chains := "/etc/ufw/before.rules", "ufw"
		if is6 {
			file, chains = "/etc/ufw/before6.rules", "ufw6"
		}
		var lines []string
		for _, forwarded := range []bool{false, true} {
			chain := chains + "-before-input"
			if forwarded {
				chain = chains + "-before-forward"
			}
			if a.has(path{is6, forwarded}) {
				lines = append(lines, fmt.Sprintf("-A %s %s -j ACCEPT", chain, a.connmark()))
			}
		}
		if len(lines) > 0 {
			steps = append(steps, Step{"in " + file + ", above its last line, COMMIT", lines})
		}
	}
	steps = append(steps, Step{run, []string{"ufw reload"}})
	var open []string
	for _, p := range a.local() {
		open = append(open, fmt.Sprintf("ufw delete allow %d/%s", p.Number, p.Protocol))
	}
	if len(open) > 0 {
		steps = append(steps, Step{"take back what accepts the ports from everyone, if you have it", open})
	}
	return steps
}

// local returns the hidden ports whose services are on this host.
func (a acceptance) local() []policy.Port {
	var all []policy.Port
	for i := range a.machine.Services {
		if s := &a.machine.Services[i]; !s.Forward.IsValid() && !slices.Contains(all, s.Port) {
			all = append(all, s.Port)
		}
	}
	return all
}

// firewalld's own rules cannot match a mark, and what they do not accept they refuse,
// whatever other rules have accepted. So they accept the port, and a direct rule, which
// comes before them, drops what is not marked. Forwarded doors need nothing: firewalld
// accepts what is sent on by a DNAT rule.
func (a acceptance) firewalld() []Step {
	var open, direct []string
	for _, p := range a.local() {
		open = append(open, fmt.Sprintf("firewall-cmd --permanent --add-port=%d/%s", p.Number, p.Protocol))
	}
	for _, is6 := range []bool{false, true} {
		ip := "ipv4"
		if is6 {
			ip = "ipv6"
		}
		rule := "firewall-cmd --permanent --direct --add-rule " + ip + " filter INPUT"
		// Over both families, and on every interface and address, whatever the door
		// is limited to: the port is accepted there, too.
		for _, p := range a.local() {
			for _, match := range a.allowed(p, is6) {
				direct = append(direct, fmt.Sprintf("%s 0%s -p %s --dport %d -j ACCEPT", rule, match, p.Protocol, p.Number))
			}
			direct = append(direct, fmt.Sprintf("%s 1 -p %s --dport %d -m conntrack --ctstate NEW -m connmark ! --mark %s/%s -j DROP",
				rule, p.Protocol, p.Number, a.mark, a.mark))
		}
	}
	if len(direct) == 0 {
		return []Step{{Text: "nothing: it accepts what is sent on to another host"}}
	}
	return []Step{
		{run, append(append(open, direct...), "firewall-cmd --reload")},
		{"in /etc/firewalld/firewalld.conf, so that the ports are shut, too, while firewalld is stopped", []string{"CleanupOnExit=no"}},
	}
}

// allowed returns who needs no knock for a hidden port, and so is not marked, as
// iptables' matches.
func (a acceptance) allowed(p policy.Port, is6 bool) []string {
	var all []string
	for _, e := range a.machine.Policy.Allow {
		if e.Service != (policy.Service{}) && !e.Service.Covers(p) || e.From.IsValid() && e.From.Addr().Is6() != is6 {
			continue
		}
		match := ""
		if e.From.IsValid() {
			match += " -s " + policy.FormatNetwork(e.From)
		}
		if e.Interface != "" {
			match += " -i " + e.Interface
		}
		all = append(all, match)
	}
	return all
}

// nftRule is the rule that accepts what is marked.
func (a acceptance) nftRule() string {
	return fmt.Sprintf("ct mark and %s == %s accept", a.mark, a.mark)
}

func (a acceptance) nftables() []Step {
	var steps []Step
	for _, forwarded := range []bool{false, true} {
		if a.has(path{false, forwarded}) || a.has(path{true, forwarded}) {
			hook := "input"
			if forwarded {
				hook = "forward"
			}
			steps = append(steps, Step{"in your " + hook + " chain, before what drops", []string{a.nftRule()}})
		}
	}
	return steps
}

func (a acceptance) iptables() []Step {
	var lines []string
	for _, is6 := range []bool{false, true} {
		program := "iptables"
		if is6 {
			program = "ip6tables"
		}
		for _, forwarded := range []bool{false, true} {
			chain := "INPUT"
			if forwarded {
				chain = "FORWARD"
			}
			if a.has(path{is6, forwarded}) {
				lines = append(lines, fmt.Sprintf("%s -I %s %s -j ACCEPT", program, chain, a.connmark()))
			}
		}
	}
	return []Step{{"run, and keep it where your rules are kept", lines}}
}
