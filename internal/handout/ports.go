package handout

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/paragraph"
	"postern/internal/policy"
)

// A need is a service that must be reachable from outside, and why.
type need struct {
	service policy.Service
	why     []string
}

// needs are in the order of their first mention in the policy.
type needs []need

func (all *needs) add(s policy.Service, why string) {
	i := slices.IndexFunc(*all, func(n need) bool { return n.service == s })
	if i < 0 {
		i = len(*all)
		*all = append(*all, need{service: s})
	}
	if n := &(*all)[i]; !slices.Contains(n.why, why) {
		n.why = append(n.why, why)
	}
}

// Ports returns the table of ports to forward on a home router to the host that
// runs the policy, with notes.
func Ports(p *policy.Policy) string {
	var forwarded, only6 needs // ports that IPv4 needs, and that only IPv6 needs
	both := false              // whether IPv6 needs any of forwarded, too
	for i := range p.Doors {
		d := &p.Doors[i]
		to := &forwarded
		switch family(d) {
		case "":
			both = true
		case "-6":
			to = &only6
		}
		for _, port := range distinct(d.Knock.Sequence) {
			to.add(single(port), knocks(d, port))
		}
		for _, port := range d.Services {
			to.add(single(port), serves(d))
		}
	}
	if p.HasKeys() {
		forwarded.add(single(p.Keys.Port), "keys")
		forwarded.add(single(policy.Port{Protocol: policy.TCP, Number: p.Keys.Port.Number}), "keys, where no UDP gets through")
		both = true
	}
	for _, a := range p.Allow {
		switch {
		case a.Service == policy.Service{}, a.From.IsValid() && a.From.Addr().IsPrivate():
			// No port, or from the inside of the router.
		case a.From.IsValid() && a.From.Addr().Is6():
			only6.add(a.Service, needsNoKnock(a))
		default:
			forwarded.add(a.Service, needsNoKnock(a))
			both = both || !a.From.IsValid()
		}
	}
	var b strings.Builder
	rows := forwarded.rows("TO PORT")
	if len(rows) > 1 {
		linesTo(&b, paragraph.Columns(rows))
		for _, note := range notes(p, forwarded) {
			paragraphTo(&b, note)
		}
	} else {
		b.WriteString("Nothing to forward: this policy opens no port to IPv4 from outside.\n")
	}
	more := only6.rows("")
	const by6 = "IPv6 needs no forwarding, but the router's firewall must let "
	switch {
	case len(more) > 1 && both:
		paragraphTo(&b, by6+"the same ports through to this host, and these, which only IPv6 uses:")
	case len(more) > 1:
		paragraphTo(&b, by6+"these through to this host:")
	case both:
		paragraphTo(&b, by6+"the same ports through to this host.")
	}
	if len(more) > 1 {
		b.WriteByte('\n')
		linesTo(&b, paragraph.Columns(more))
	}
	return b.String()
}

// notes returns what a table of ports cannot express.
func notes(p *policy.Policy, forwarded needs) []string {
	all := []string{"Forward each port to the same number on this host. The router must keep the client's source address: " +
		"if it inserts its own, all clients count as one source."}
	for _, n := range forwarded {
		switch {
		case n.service.Protocol == policy.ICMP:
			all = append(all, fmt.Sprintf("Echo requests (%s) have no port. Over IPv4 the router answers them itself, so they do not reach this host.",
				strings.Join(n.why, "; ")))
		case !ported(n.service):
			all = append(all, fmt.Sprintf("%s (%s) has no ports: the router must be able to forward the protocol.",
				n.service, strings.Join(n.why, "; ")))
		}
	}
	for i := range p.Doors {
		if d := &p.Doors[i]; d.Forward.IsValid() && family(d) != "-6" {
			all = append(all, fmt.Sprintf("Forward %s to this host and not to %s, otherwise door %s hides nothing.",
				d.Services[0], d.Forward.Addr(), d.Name))
		}
	}
	all = append(all, sharedPorts(p)...)
	return append(all, "Routers differ in how they answer for ports that they do not forward. If yours stays silent, cover: drop "+
		"makes forwarded ports look the same; if it refuses, cover: reset does.")
}

// sharedPorts returns a note for each port that several IPv4 addresses of the
// host need. A router can forward a port to one address only.
func sharedPorts(p *policy.Policy) []string {
	var order []policy.Port
	wanted := map[policy.Port][]netip.Addr{}
	for i := range p.Doors {
		d := &p.Doors[i]
		if !d.Address.Is4() || family(d) == "-6" {
			continue
		}
		for _, port := range d.Services {
			if len(wanted[port]) == 0 {
				order = append(order, port)
			}
			if !slices.Contains(wanted[port], d.Address) {
				wanted[port] = append(wanted[port], d.Address)
			}
		}
	}
	var all []string
	for _, port := range order {
		if a := wanted[port]; len(a) > 1 {
			all = append(all, fmt.Sprintf("%s is needed at %s, but the router can forward it to only one of them. Use other external ports for the others.",
				port, list(a)))
		}
	}
	return all
}

// rows returns the table of the services that have ports. If to is empty, the
// column of ports on this host is left out.
func (all needs) rows(to string) [][]string {
	row := func(external, protocol, inner, why string) []string {
		if to == "" {
			return []string{external, protocol, why}
		}
		return []string{external, protocol, inner, why}
	}
	rows := [][]string{row("EXTERNAL", "PROTOCOL", to, "PURPOSE")}
	for _, n := range all {
		if ported(n.service) {
			protocol, numbers, _ := strings.Cut(n.service.String(), "/")
			rows = append(rows, row(numbers, protocol, numbers, strings.Join(n.why, "; ")))
		}
	}
	return rows
}

func ported(s policy.Service) bool { return s.Protocol == policy.TCP || s.Protocol == policy.UDP }

func single(p policy.Port) policy.Service {
	return policy.Service{Protocol: p.Protocol, First: p.Number, Last: p.Number}
}

func distinct(ports []policy.Port) []policy.Port {
	var all []policy.Port
	for _, p := range ports {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// knocks returns which of a door's knocks a port is: "knocks 1 and 3 of door
// ssh".
func knocks(d *policy.Door, port policy.Port) string {
	var numbers []string
	for i, k := range d.Knock.Sequence {
		if k == port {
			numbers = append(numbers, fmt.Sprint(i+1))
		}
	}
	last := len(numbers) - 1
	if last == 0 {
		return fmt.Sprintf("knock %s of door %s", numbers[0], d.Name)
	}
	return fmt.Sprintf("knocks %s and %s of door %s", strings.Join(numbers[:last], ", "), numbers[last], d.Name)
}

func serves(d *policy.Door) string {
	text := "service of door " + d.Name
	if d.Address.IsValid() {
		text += ", at " + d.Address.String()
	}
	if d.Forward.IsValid() {
		text += ", which this host forwards to " + d.Forward.String()
	}
	return text
}

func needsNoKnock(a policy.Allow) string {
	text := "needs no knock"
	if a.From.IsValid() {
		text += ", from " + policy.FormatNetwork(a.From)
	}
	if a.Interface != "" {
		text += ", on " + a.Interface
	}
	return text
}

func paragraphTo(b *strings.Builder, text string) {
	b.WriteByte('\n')
	linesTo(b, paragraph.Wrap(text, 80))
}

func linesTo(b *strings.Builder, lines []string) {
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
}
