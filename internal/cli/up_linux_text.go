//go:build linux && !(386 || arm || mips || mipsle)

package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"postern/internal/cli/ui"
	"postern/internal/host"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// The backends.

const sayRemember = "knocking hides a service; its own log-in must still be safe"

func (s *session) sayLoaded(l loaded) {
	switch l.Replaced {
	case "same":
		s.Say("%s rule set %s, which was there already", ui.Colour(s.ErrTTY, ui.Bold, "loaded"), l.RuleSet)
		return
	case "altered":
		s.Say("%s rule set %s, which somebody had changed; grants are kept", ui.Colour(s.ErrTTY, ui.Bold, "mended"), l.RuleSet)
		return
	case "other":
		s.Say("%s rule set %s in place of another; grants are kept", ui.Colour(s.ErrTTY, ui.Bold, "loaded"), l.RuleSet)
	default:
		s.Say("%s rule set %s", ui.Colour(s.ErrTTY, ui.Bold, "loaded"), l.RuleSet)
	}
	if l.With != "" {
		s.Say("the rules are those of %s", l.With)
	}
	for _, name := range l.TakenOut {
		s.Say("the rules of the %s backend, which held until now, are taken out", name)
	}
	for i, d := range l.Doors {
		if i == mostRows && len(l.Doors) > mostRows+1 {
			s.Say("and %d more doors", len(l.Doors)-i)
			break
		}
		s.Say("door %s hides %s", d.Name, ui.List(d.Services))
	}
	if l.Replaced == "nothing" {
		s.Say(sayRemember)
	}
}

// A stuckDoor forwards, where the host does not.
type stuckDoor struct {
	door    string
	to      netip.AddrPort
	missing host.Setting
}

func (d *stuckDoor) message() string {
	return fmt.Sprintf("door %s leads to %s, and this host does not forward packets (%s is 0)", d.door, d.to, d.missing.Name)
}

func (d *stuckDoor) hints() []string {
	set := d.missing.Name + "=" + d.missing.Value
	return []string{
		fmt.Sprintf("turn it on with %q, and in /etc/sysctl.d for after a reboot", "sysctl "+set),
		"it makes a router of this host: look at its forward rules as well",
	}
}

func (d *stuckDoor) failure() *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: d.message(), Hints: d.hints()}
}

func (d *stuckDoor) remark() ui.Remark { return ui.Remark{Message: d.message(), Hints: d.hints()} }

func aboutAbsent(names []string, all bool) ui.Remark {
	it, comes := "it", "comes"
	if len(names) > 1 {
		it, comes = "they", "come"
	}
	r := ui.Remark{Message: fmt.Sprintf("this host has no interface %s: nothing is hidden there until %s %s", ui.List(names), it, comes)}
	if all {
		r.Message = fmt.Sprintf("this host has no interface %s, and so the policy does nothing until it has", ui.List(names))
	}
	r.Hints = []string{"\"ip link\" lists the interfaces there are; one that is renamed is another interface"}
	return r
}

func (e *enslaved) message() string {
	if e.master == "" {
		return fmt.Sprintf("%s is a port of a switch, and its packets do not come in by its name: nothing is hidden from them", e.name)
	}
	return fmt.Sprintf("%s is a port of %s, and its packets come in by that name: nothing is hidden from them", e.name, e.master)
}

func (e *enslaved) hint() string {
	if e.master == "" {
		return "write the interface that has the address, or leave interfaces out"
	}
	return fmt.Sprintf("write interfaces: [%s]", strings.Join(e.instead, ", "))
}

func (e *enslaved) remark() ui.Remark {
	return ui.Remark{Message: e.message(), Hints: []string{e.hint()}}
}

func (e *enslaved) failure() *ui.Failure {
	return &ui.Failure{
		Code: ui.CodeFailed, Message: e.message() + "; nothing has changed",
		Hints: []string{e.hint(), "to go on all the same, say --yes"},
	}
}

// aboutObstacle warns of another rule set.
func aboutObstacle(o otherrules.Obstacle) ui.Remark {
	var ports []string
	for _, p := range o.Ports {
		ports = append(ports, p.String())
	}
	what, where := ui.List(ports), fmt.Sprintf("table %s, chain %s", o.Table, o.Chain)
	if o.To.IsValid() {
		what += " to " + o.To.String()
	}
	switch o.Kind {
	case otherrules.Diverts, otherrules.MayDivert:
		if o.Manager == "docker" {
			return ui.Remark{Note: true, Message: fmt.Sprintf("docker publishes %s (%s): a knock leads to the container", what, where)}
		}
		sends := "sends"
		if o.Kind == otherrules.MayDivert {
			sends = "may send"
		}
		return ui.Remark{
			Message: fmt.Sprintf("%s %s %s elsewhere: that is where a knock will lead", where, sends, what),
			Hints:   []string{"right for a published container port; else take that rule out"},
		}
	case otherrules.Untracks:
		return ui.Remark{
			Message: fmt.Sprintf("%s keeps %s from connection tracking: a door for it will not work", where, what),
			Hints:   []string{"take that notrack rule out"},
		}
	case otherrules.DropsUnread:
		return ui.Remark{
			Message: fmt.Sprintf("%s drops by default, and may drop %s even after a knock", where, what),
			Hints:   []string{"see that it accepts them; postern keeps them hidden"},
		}
	}
	hint := "accept it there as well; postern keeps it hidden"
	port := o.Ports[0]
	switch {
	case o.Manager == "ufw" && o.To.IsValid():
		hint = fmt.Sprintf("\"ufw route allow to %s port %d proto %s\"; postern keeps it hidden", o.To, port.Number, port.Protocol)
	case o.Manager == "ufw":
		hint = fmt.Sprintf("\"ufw allow %d/%s\"; postern keeps it hidden", port.Number, port.Protocol)
	case o.Manager == "firewalld" && !o.To.IsValid():
		hint = fmt.Sprintf("\"firewall-cmd --permanent --add-port=%d/%s\" and \"firewall-cmd --reload\"; postern keeps it hidden", port.Number, port.Protocol)
	case o.Manager == "docker" && o.To.IsValid():
		program := "iptables"
		if o.To.Is6() {
			program = "ip6tables"
		}
		hint = fmt.Sprintf("\"%s -I DOCKER-USER -d %s -p %s --dport %d -j ACCEPT\"", program, o.To, port.Protocol, port.Number)
	}
	return ui.Remark{
		Message: fmt.Sprintf("%s drops %s, even after a knock", where, what),
		Hints:   []string{hint},
	}
}

// aboutEscape warns of a rule set that takes packets for hidden ports away before
// the rules of iptables see them.
func aboutEscape(o otherrules.Obstacle) ui.Remark {
	var ports []string
	for _, p := range o.Ports {
		ports = append(ports, p.String())
	}
	return ui.Remark{
		Message: fmt.Sprintf("table %s, chain %s sends %s elsewhere, where iptables rules do not see it: it is not hidden",
			o.Table, o.Chain, ui.List(ports)),
		Hints: []string{"use the nftables backend, or take that rule out"},
	}
}

// aboutCutOff warns of ports that programs receive UDP on.
func aboutCutOff(ports []string) ui.Remark {
	it := "it"
	if len(ports) > 1 {
		it = "them"
	}
	return ui.Remark{
		Message: fmt.Sprintf("programs on this host receive on %s, and neither allow nor a door names %s: "+
			"others get through only after this host has sent them something, and a session by way of a VPN there may be cut off",
			ui.List(ports), it),
		Hints: []string{"list in allow what others begin; answers to what this host asks come in all the same"},
	}
}

// aboutConspicuous warns of a rule set that refuses what is not hidden, otherwise
// than the cover refuses what is.
func aboutConspicuous(i otherrules.Idle, cover policy.Cover, fitting *policy.Cover) ui.Remark {
	how := "drops"
	if i.Answer != policy.NoAnswer {
		how = fmt.Sprintf("answers with %s to", i.Answer)
	}
	ip := "IPv4"
	if i.IPv6 {
		ip = "IPv6"
	}
	r := ui.Remark{Message: fmt.Sprintf(
		"table %s, chain %s %s what it does not list (%s over %s); under cover: %s the hidden ports answer otherwise, and show",
		i.Table, i.Chain, how, i.Protocol, ip, cover)}
	if fitting != nil {
		r.Hints = []string{fmt.Sprintf("write \"cover: %s\"", *fitting)}
	} else {
		r.Hints = []string{"no cover fits: have the other rules drop all else, over IPv4 and IPv6, and write \"cover: drop\""}
	}
	return r
}

// wouldShutOut refuses to shut the caller out.
func wouldShutOut(out *shutOutCaller) *ui.Failure {
	f := &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("you came in by %s from %s, and would be kept out of it; nothing has changed", out.port, out.From),
		Hints: []string{
			"to go on, say --yes: this session stays open, and a second one to fall back on is wise",
			wayBack(out),
			fmt.Sprintf("or need no knock from there, by an entry in allow: {service: %s, from: %s}", out.port, out.From),
		},
	}
	return f
}

// doesShutOut reminds a caller who wants it so.
func doesShutOut(out *shutOutCaller) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("you came in by %s from %s, and are kept out of it once this session ends", out.port, out.From),
		Hints:   []string{wayBack(out)},
	}
}

func wayBack(out *shutOutCaller) string {
	if out.door == nil {
		return fmt.Sprintf("there is no way back: no door opens %s to %s", out.port, out.From)
	}
	knocks := ""
	for _, port := range out.door.Knock.Sequence {
		knocks += " " + knockWord(port)
	}
	return fmt.Sprintf("the way back: postern knock %s%s", out.To.Addr(), knocks)
}

// knockWord is a knock as it is typed.
func knockWord(p policy.Port) string {
	switch p.Protocol {
	case policy.TCP:
		return strconv.Itoa(int(p.Number))
	case policy.UDP:
		return strconv.Itoa(int(p.Number)) + ":udp"
	}
	return p.String()
}
