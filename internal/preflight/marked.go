package preflight

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/automaton"
	"postern/internal/policy"
)

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
	a, missing := acceptanceOf(m)
	var all []Section
	if missing {
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
var policyLine = fmt.Sprintf("admitted: {mark: %s}", policy.SuggestedMark)

// An acceptance writes how others accept what carries a mark.
type acceptance struct {
	machine *automaton.Machine
	mark    policy.Mark
}

// acceptanceOf returns that of a machine, and whether its policy sets no mark yet.
func acceptanceOf(m *automaton.Machine) (a acceptance, missing bool) {
	a = acceptance{m, m.Policy.Admitted.Mark}
	if a.mark == 0 {
		a.mark, missing = policy.SuggestedMark, true
	}
	return a, missing
}

// A path is how packets reach services.
type path struct{ is6, forwarded bool }

// hook is where the kernel judges what takes the path.
func (p path) hook() string {
	if p.forwarded {
		return "forward"
	}
	return "input"
}

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
		var file string
		var lines []string
		for _, forwarded := range []bool{false, true} {
			if p := (path{is6, forwarded}); a.has(p) {
				var rule string
				file, rule = a.ufwRule(p)
				lines = append(lines, rule)
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

// ufwRule returns the rule for a path, and the file that it belongs into.
func (a acceptance) ufwRule(p path) (file, rule string) {
	file, chain := "/etc/ufw/before.rules", "ufw-before"
	if p.is6 {
		file, chain = "/etc/ufw/before6.rules", "ufw6-before"
	}
	return file, fmt.Sprintf("-A %s-%s %s -j ACCEPT", chain, p.hook(), a.connmark())
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
	ports := a.local()
	if len(ports) == 0 {
		return []Step{{Text: "nothing: it accepts what is sent on to another host"}}
	}
	return []Step{
		{run, a.firewalldCommands(ports)},
		{"in /etc/firewalld/firewalld.conf, so that the ports are shut, too, while firewalld is stopped", []string{"CleanupOnExit=no"}},
	}
}

// firewalldCommands are for both families, and every interface and address, whatever
// the doors are limited to: the ports are accepted there, too.
func (a acceptance) firewalldCommands(ports []policy.Port) []string {
	var all []string
	for _, p := range ports {
		all = append(all, fmt.Sprintf("firewall-cmd --permanent --add-port=%d/%s", p.Number, p.Protocol))
	}
	for _, is6 := range []bool{false, true} {
		rule := "firewall-cmd --permanent --direct --add-rule ipv4 filter INPUT"
		if is6 {
			rule = strings.Replace(rule, "ipv4", "ipv6", 1)
		}
		for _, p := range ports {
			for _, match := range a.allowed(p, is6) {
				all = append(all, fmt.Sprintf("%s 0%s -p %s --dport %d -j ACCEPT", rule, match, p.Protocol, p.Number))
			}
			all = append(all, fmt.Sprintf("%s 1 -p %s --dport %d -m conntrack --ctstate NEW -m connmark ! --mark %s/%s -j DROP",
				rule, p.Protocol, p.Number, a.mark, a.mark))
		}
	}
	return append(all, "firewall-cmd --reload")
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
		if p := (path{false, forwarded}); a.has(p) || a.has(path{true, forwarded}) {
			steps = append(steps, Step{"in your " + p.hook() + " chain, before what drops", []string{a.nftRule()}})
		}
	}
	return steps
}

func (a acceptance) iptables() []Step {
	var lines []string
	for _, is6 := range []bool{false, true} {
		for _, forwarded := range []bool{false, true} {
			if p := (path{is6, forwarded}); a.has(p) {
				lines = append(lines, a.iptablesCommand(program(is6), strings.ToUpper(p.hook())))
			}
		}
	}
	return []Step{
		{"run, and keep it where your rules are kept", lines},
		{"run again: with the iptables backend its rules must come before these", []string{"postern up"}},
	}
}

// iptablesCommand accepts what is marked, first thing in a chain.
func (a acceptance) iptablesCommand(program, chain string) string {
	return fmt.Sprintf("%s -I %s %s -j ACCEPT", program, chain, a.connmark())
}

func program(is6 bool) string {
	if is6 {
		return "ip6tables"
	}
	return "iptables"
}
