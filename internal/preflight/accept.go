package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/paragraph"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// howToAccept says how another rule set accepts what it drops, and what is open
// then without a knock. No rule of another firewall can ask whether Postern's are
// there, so nobody is told to accept more than Postern hides, nor to believe that
// it is hidden at all times.
func (f *facts) howToAccept(o otherrules.Obstacle) []string {
	if o.To.IsValid() {
		return acceptForwarded(o)
	}
	limits := f.hiddenAt(o.Ports)
	return []string{limits.accept(o), limits.caution(portList(o))}
}

// A hiding says where Postern hides ports; the zero value: everywhere on this host.
type hiding struct {
	interfaces []string
	address    netip.Addr
}

// hiddenAt returns where the policy hides ports, as far as all of them are hidden
// alike.
func (f *facts) hiddenAt(ports []policy.Port) hiding {
	h := hiding{interfaces: f.machine.Policy.Interfaces}
	for _, s := range f.machine.Services {
		if s.Address.IsValid() && slices.Contains(ports, s.Port) {
			h.address = s.Address
		}
	}
	return h
}

// limit says where to accept, with a word before it; "" for everywhere.
func (h hiding) limit() string {
	limit := ""
	if len(h.interfaces) > 0 {
		limit += " on " + paragraph.List(h.interfaces)
	}
	if h.address.IsValid() {
		limit += " to " + h.address.String()
	}
	return limit
}

// accept says how to accept ports where Postern hides them, in the words of the
// program that made the rules.
func (h hiding) accept(o otherrules.Obstacle) string {
	var commands []string
	switch {
	case o.Kind == otherrules.DropsUnread && h.limit() == "":
		return fmt.Sprintf("check that its rules accept %s", portList(o))
	case o.Kind == otherrules.DropsUnread:
		return fmt.Sprintf("check that its rules accept %s%s, and nowhere else: it is hidden there alone", portList(o), h.limit())
	case o.Manager == "ufw":
		on := h.interfaces
		if len(on) == 0 {
			on = []string{""}
		}
		for _, p := range o.Ports {
			for _, name := range on {
				commands = append(commands, h.ufw(p, name))
			}
		}
	case o.Manager == "firewalld" && h.limit() == "":
		for _, p := range o.Ports {
			commands = append(commands, fmt.Sprintf("\"firewall-cmd --permanent --add-port=%d/%s\"", p.Number, p.Protocol))
		}
		commands = append(commands, "\"firewall-cmd --reload\"")
	case h.limit() == "":
		return "accept it there as well"
	default:
		return fmt.Sprintf("accept it there as well, but only%s: elsewhere it would be open without a knock", h.limit())
	}
	return strings.Join(commands, " and ")
}

// ufw returns the command that accepts a port.
func (h hiding) ufw(p policy.Port, on string) string {
	if on == "" && !h.address.IsValid() {
		return fmt.Sprintf("\"ufw allow %d/%s\"", p.Number, p.Protocol)
	}
	command := "ufw allow"
	if on != "" {
		command += " in on " + on
	}
	to := "any"
	if h.address.IsValid() {
		to = h.address.String()
	}
	return fmt.Sprintf("\"%s to %s port %d proto %s\"", command, to, p.Number, p.Protocol)
}

// caution says what an accepting rule means without Postern.
func (h hiding) caution(ports string) string {
	return fmt.Sprintf("%s is then open to everyone%s whenever postern's rules are absent: after a flush, or after a reboot until \"postern up\"",
		ports, h.limit())
}

// acceptForwarded says how to accept what a door sends on to another host. Packets
// that were not sent on by a rule, as those of hosts that use this one as a
// router, need not be accepted with it.
func acceptForwarded(o otherrules.Obstacle) []string {
	const dnat = "-m conntrack --ctstate DNAT"
	switch {
	case o.Kind == otherrules.DropsUnread:
		return []string{fmt.Sprintf("check that its rules accept it, for example by \"%s -j ACCEPT\"", dnat)}
	case o.Manager == "ufw":
		var commands []string
		for _, p := range o.Ports {
			commands = append(commands, fmt.Sprintf("\"ufw route allow to %s port %d proto %s\"", o.To, p.Number, p.Protocol))
		}
		return []string{
			strings.Join(commands, " and "),
			fmt.Sprintf("anyone who routes packets through this host then reaches %s there without a knock", portList(o)),
		}
	case o.Manager == "docker":
		program := "iptables"
		if o.To.Is6() {
			program = "ip6tables"
		}
		var commands []string
		for _, p := range o.Ports {
			commands = append(commands, fmt.Sprintf("\"%s -I DOCKER-USER -d %s -p %s --dport %d %s -j ACCEPT\"",
				program, o.To, p.Protocol, p.Number, dnat))
		}
		return []string{strings.Join(commands, " and ")}
	}
	return []string{fmt.Sprintf("accept there what was sent on by a rule: \"ct status dnat accept\", or \"%s -j ACCEPT\" with iptables", dnat)}
}
