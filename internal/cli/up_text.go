//go:build linux && !arm

package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"postern/internal/host"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// The backends.

func notInspected(err error) remark {
	return remark{Message: fmt.Sprintf("another backend may have rules loaded as well: %v", err)}
}

// twoBackends warns of what an up that was killed may leave behind.
func twoBackends(all []running) remark {
	var names []string
	for _, r := range all {
		names = append(names, r.Name())
	}
	return remark{
		Message: fmt.Sprintf("the rules of several backends are loaded: %s; this is about the first", list(names)),
		Hints:   []string{"\"postern up\" takes out all but those of its --backend"},
	}
}

func stillThere(name string, err error) *failure {
	return &failure{
		Code: codeFailed, err: err,
		Message: fmt.Sprintf("the rules are loaded, but those of the %s backend could not be taken out: %v", name, err),
		Hints:   []string{"run the same command again: what they hide stays hidden until then"},
	}
}

const sayRemember = "knocking hides a service; its own log-in must still be safe"

func (v *voice) sayLoaded(l loaded) {
	switch l.Replaced {
	case "same":
		v.say("%s rule set %s, which was there already", colour(v.errTTY, bold, "loaded"), l.RuleSet)
		return
	case "altered":
		v.say("%s rule set %s, which somebody had changed; grants are kept", colour(v.errTTY, bold, "mended"), l.RuleSet)
		return
	case "other":
		v.say("%s rule set %s in place of another; grants are kept", colour(v.errTTY, bold, "loaded"), l.RuleSet)
	default:
		v.say("%s rule set %s", colour(v.errTTY, bold, "loaded"), l.RuleSet)
	}
	if l.With != "" {
		v.say("the rules are those of %s", l.With)
	}
	for _, name := range l.TakenOut {
		v.say("the rules of the %s backend, which held until now, are taken out", name)
	}
	for i, d := range l.Doors {
		if i == mostRows && len(l.Doors) > mostRows+1 {
			v.say("and %d more doors", len(l.Doors)-i)
			break
		}
		v.say("door %s hides %s", d.Name, list(d.Services))
	}
	if l.Replaced == "nothing" {
		v.say(sayRemember)
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

func (d *stuckDoor) failure() *failure {
	return &failure{Code: codeFailed, Message: d.message(), Hints: d.hints()}
}

func (d *stuckDoor) remark() remark { return remark{Message: d.message(), Hints: d.hints()} }

func aboutAbsent(names []string, all bool) remark {
	it, comes := "it", "comes"
	if len(names) > 1 {
		it, comes = "they", "come"
	}
	r := remark{Message: fmt.Sprintf("this host has no interface %s: nothing is hidden there until %s %s", list(names), it, comes)}
	if all {
		r.Message = fmt.Sprintf("this host has no interface %s, and so the policy does nothing until it has", list(names))
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

func (e *enslaved) remark() remark { return remark{Message: e.message(), Hints: []string{e.hint()}} }

func (e *enslaved) failure() *failure {
	return &failure{
		Code: codeFailed, Message: e.message() + "; nothing has changed",
		Hints: []string{e.hint(), "to go on all the same, say --yes"},
	}
}

// aboutObstacle warns of another rule set.
func aboutObstacle(o otherrules.Obstacle) remark {
	var ports []string
	for _, p := range o.Ports {
		ports = append(ports, p.String())
	}
	what, where := list(ports), fmt.Sprintf("table %s, chain %s", o.Table, o.Chain)
	if o.To.IsValid() {
		what += " to " + o.To.String()
	}
	switch o.Kind {
	case otherrules.Diverts, otherrules.MayDivert:
		if o.Manager == "docker" {
			return remark{Note: true, Message: fmt.Sprintf("docker publishes %s (%s): a knock leads to the container", what, where)}
		}
		sends := "sends"
		if o.Kind == otherrules.MayDivert {
			sends = "may send"
		}
		return remark{
			Message: fmt.Sprintf("%s %s %s elsewhere: that is where a knock will lead", where, sends, what),
			Hints:   []string{"right for a published container port; else take that rule out"},
		}
	case otherrules.Untracks:
		return remark{
			Message: fmt.Sprintf("%s keeps %s from connection tracking: a door for it will not work", where, what),
			Hints:   []string{"take that notrack rule out"},
		}
	case otherrules.DropsUnread:
		return remark{
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
	return remark{
		Message: fmt.Sprintf("%s drops %s, even after a knock", where, what),
		Hints:   []string{hint},
	}
}

// aboutEscape warns of a rule set that takes packets for hidden ports away before
// the rules of iptables see them.
func aboutEscape(o otherrules.Obstacle) remark {
	var ports []string
	for _, p := range o.Ports {
		ports = append(ports, p.String())
	}
	return remark{
		Message: fmt.Sprintf("table %s, chain %s sends %s elsewhere, where iptables rules do not see it: it is not hidden",
			o.Table, o.Chain, list(ports)),
		Hints: []string{"use the nftables backend, or take that rule out"},
	}
}

// aboutCutOff warns of ports that programs receive UDP on.
func aboutCutOff(ports []string) remark {
	it := "it"
	if len(ports) > 1 {
		it = "them"
	}
	return remark{
		Message: fmt.Sprintf("programs on this host receive on %s, and neither allow nor a door names %s: "+
			"others get through only after this host has sent them something, and a session by way of a VPN there may be cut off",
			list(ports), it),
		Hints: []string{"list in allow what others begin; answers to what this host asks come in all the same"},
	}
}

// aboutConspicuous warns of a rule set that refuses what is not hidden, otherwise
// than the cover refuses what is.
func aboutConspicuous(i otherrules.Idle, cover policy.Cover, fitting *policy.Cover) remark {
	how := map[otherrules.Refusal]string{
		otherrules.Silence:     "drops",
		otherrules.Reset:       "answers with a RST to",
		otherrules.Unreachable: "answers with port unreachable to",
		otherrules.Otherwise:   "answers with an ICMP error of its own to",
	}[i.Refusal]
	ip := "IPv4"
	if i.IPv6 {
		ip = "IPv6"
	}
	r := remark{Message: fmt.Sprintf(
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
func wouldShutOut(out *shutOutCaller) *failure {
	f := &failure{
		Code:    codeFailed,
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
func doesShutOut(out *shutOutCaller) remark {
	return remark{
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
