package migrate

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/policy"
)

// A phrase is the words of a command of nft, ufw or firewalld, taken one by one.
// Whoever reads one must understand every word of it: what is passed over may be
// a condition, and then the door would open to more.
type phrase []string

// next takes a word; it is empty at the end.
func (p *phrase) next() string {
	if len(*p) == 0 {
		return ""
	}
	word := (*p)[0]
	*p = (*p)[1:]
	return word
}

// is takes the word that comes next if it is one of these.
func (p *phrase) is(words ...string) bool {
	if len(*p) > 0 && slices.Contains(words, (*p)[0]) {
		p.next()
		return true
	}
	return false
}

// until passes over words that are not one of these.
func (p *phrase) until(words ...string) {
	for len(*p) > 0 && !slices.Contains(words, (*p)[0]) {
		p.next()
	}
}

// address limits what is opened to one address of this host.
func (o *opened) address(text string) bool {
	a, err := netip.ParseAddr(text)
	o.to = a
	return err == nil && !a.Is4In6() && a.Zone() == ""
}

var (
	aroundComma = regexp.MustCompile(`\s*,\s*`)
	inBraces    = regexp.MustCompile(`\{\s*([^{}]*?)\s*\}`)
)

// nftCommand reads "nft add rule …" and "nft add element …".
func nftCommand(args []string) (*opened, bool, string) {
	const unclear = "what this command of nft opens cannot be told"
	text := aroundComma.ReplaceAllString(strings.Join(args, " "), ",")
	p := phrase(strings.Fields(inBraces.ReplaceAllString(text, " {$1} ")))
	for len(p) > 0 && strings.HasPrefix(p[0], "-") {
		p.next()
	}
	closing := p.is("delete", "destroy")
	switch {
	case closing && (p.is("rule") || p.is("element")): // by a handle, which says nothing
		return &opened{}, true, ""
	case closing, !p.is("add", "insert", "create"):
		return nil, false, unclear
	case p.is("element"):
		return nil, false, "it puts the knocker into a set, and the rule that says what the set may do is not in this file"
	case !p.is("rule"):
		return nil, false, unclear
	}
	p.is("ip", "ip6", "inet")
	p.next() // the table
	if problem := inChain(p.next()); problem != "" {
		return nil, false, problem
	}
	if p.is("position", "handle", "index") {
		p.next()
	}
	o := &opened{}
	source, protocol, ports, accepts := "", "", "", false
	for len(p) > 0 {
		understood := true
		switch word := p.next(); word {
		case "ip", "ip6":
			switch p.next() {
			case "saddr":
				source = strings.Trim(p.next(), "{}")
			case "daddr":
				understood = o.address(p.next())
			case "protocol", "nexthdr":
				understood = p.is("tcp", "udp")
			default:
				understood = false
			}
		case "tcp", "udp":
			understood = p.is("dport") && protocol == ""
			protocol, ports = word, strings.Trim(p.next(), "{}")
		case "meta":
			switch {
			case p.is("l4proto"):
				understood = p.is("tcp", "udp")
			case p.is("nfproto"):
				understood = p.is("ipv4", "ipv6")
			default:
				understood = len(p) > 0 && (p[0] == "iif" || p[0] == "iifname")
			}
		case "iif", "iifname":
			name := p.next()
			understood = name != "!="
			o.notes = append(o.notes, oneInterface(name))
		case "ct":
			understood = p.is("state") && slices.Contains(strings.Split(strings.Trim(p.next(), "{}"), ","), "new")
		case "counter":
			for p.is("packets", "bytes") {
				p.next()
			}
		case "log":
			p.until("accept", "counter")
		case "limit":
			p.until("accept", "counter")
			o.notes = append(o.notes, whyNoLimit)
		case "accept":
			accepts = true
		case "comment":
			p = nil
		default:
			understood = false
		}
		if !understood {
			return nil, false, unclear
		}
	}
	if !accepts {
		return nil, false, unclear
	}
	if problem := o.whom(source); problem != "" {
		return nil, false, problem
	}
	return o.ports(protocol, strings.ReplaceAll(ports, "-", ":"), false, unclear)
}

// ports makes services of the ports that a command names; none are all.
func (o *opened) ports(protocol, text string, closing bool, unclear string) (*opened, bool, string) {
	if text == "" {
		return o.fill(0, nil, netip.AddrPort{}, closing)
	}
	services, ok := parsePorts(text)
	if !ok {
		return nil, closing, unclear
	}
	return o.fill(protocolNumber(protocol), services, netip.AddrPort{}, closing)
}

// ufwCommand reads "ufw allow from %IP% to any port 22 proto tcp".
func ufwCommand(args []string) (*opened, bool, string) {
	const unclear = "what this command of ufw opens cannot be told"
	closing, allows, side := false, false, ""
	protocol, port, source := "", "", ""
	o := &opened{}
	for p := phrase(args); len(p) > 0; {
		understood := true
		switch word := p.next(); word {
		case "--force", "rule", "log", "log-all", "prepend", "in":
		case "delete":
			if closing = true; len(p) == 1 && strings.Trim(p[0], "0123456789") == "" {
				return &opened{}, true, ""
			}
		case "insert", "comment":
			p.next()
		case "allow":
			allows = true
		case "limit":
			allows = true
			o.notes = append(o.notes, whyNoLimit)
		case "on":
			o.notes = append(o.notes, oneInterface(p.next()))
		case "proto":
			protocol = p.next()
		case "from":
			side, source = word, p.next()
		case "to":
			side = word
			understood = p.is("any") || o.address(p.next())
		case "port":
			port = p.next()
			understood = side == "to"
		default:
			understood = false
		}
		if !understood {
			return nil, closing, unclear
		}
	}
	if number, name, found := strings.Cut(port, "/"); found {
		port, protocol = number, name
	}
	if !allows || port == "" {
		return nil, closing, unclear
	}
	if problem := o.whom(source); problem != "" {
		return nil, closing, problem
	}
	if protocol == "" {
		protocol = "tcp"
		o.notes = append(o.notes, "without proto, ufw opens the port for TCP and UDP; the policy opens it for TCP")
	}
	return o.ports(protocol, port, closing, unclear)
}

// firewalldCommand reads a rich rule that accepts.
func firewalldCommand(args []string) (*opened, bool, string) {
	const unclear = "what this command of firewall-cmd opens cannot be told"
	o := &opened{}
	closing, rule := false, ""
	for p := phrase(args); len(p) > 0; {
		option, value, joined := strings.Cut(p.next(), "=")
		if !joined && slices.Contains([]string{"--zone", "--timeout", "--add-rich-rule", "--remove-rich-rule"}, option) {
			value = p.next()
		}
		switch option {
		case "--permanent", "-q", "--quiet":
		case "--zone":
			o.notes = append(o.notes, "the rule is for the zone "+short(value)+" alone, and the door for all interfaces that the policy names")
		case "--timeout":
			if n, err := strconv.Atoi(strings.TrimSuffix(value, "s")); err == nil && n > 0 && n <= 86400 {
				o.timeout = time.Duration(n) * time.Second
			} else if d, err := time.ParseDuration(value); err == nil && d > 0 {
				o.timeout = min(d, 24*time.Hour)
			}
		case "--add-rich-rule":
			rule = value
		case "--remove-rich-rule":
			closing, rule = true, value
		default:
			return nil, closing, unclear
		}
	}
	p := phrase(strings.Fields(strings.NewReplacer(`"`, "", "'", "").Replace(rule)))
	set := func(name string) string {
		if len(p) == 0 || !strings.HasPrefix(p[0], name+"=") {
			return ""
		}
		return p.next()[len(name)+1:]
	}
	source, protocol, port, accepts := "", "", "", false
	for len(p) > 0 {
		understood := true
		switch word := p.next(); {
		case word == "rule", strings.HasPrefix(word, "family="), strings.HasPrefix(word, "priority="):
		case word == "source":
			source = set("address")
			understood = source != ""
		case word == "destination":
			understood = o.address(set("address"))
		case word == "service":
			known := wellKnown[set("name")]
			understood = known != policy.Port{} && port == ""
			protocol, port = known.Protocol.String(), strconv.Itoa(int(known.Number))
		case word == "port":
			understood = port == ""
			protocol = set("protocol")
			port = strings.ReplaceAll(set("port"), "-", ":")
			if protocol == "" {
				protocol = set("protocol")
			}
			understood = understood && port != "" && protocol != ""
		case word == "log", word == "audit":
			p.until("accept")
		case word == "accept":
			accepts = true
		case word == "limit":
			understood = set("value") != ""
			o.notes = append(o.notes, whyNoLimit)
		default:
			understood = false
		}
		if !understood {
			return nil, closing, unclear
		}
	}
	if !accepts {
		return nil, closing, unclear
	}
	if problem := o.whom(source); problem != "" {
		return nil, closing, problem
	}
	return o.ports(protocol, port, closing, unclear)
}
