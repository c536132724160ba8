package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"postern/internal/lazyregexp"
	"postern/internal/policy"
)

// clauses matches any number of clauses, in any order. The names of its groups
// are those of translate; a digit at the end only makes them differ.
func clauses(all ...string) string { return "(?: (?:" + strings.Join(all, "|") + "))+" }

// The commands of other programs that let something in. A pattern knows every
// word of them: one that it does not know may be a condition, and then the door
// would open to more.
var patterns = map[string]func() *regexp.Regexp{
	"nft": lazyregexp.New(`^(?:-\S+ )*(?:add|insert|create) rule(?: ip| ip6| inet)? \S+ (?P<chain>\S+)(?: (?:position|handle|index) \S+)?` +
		clauses(`ip6? saddr (?P<from>[^! ]\S*)`, `ip6? daddr (?P<to>[^! ]\S*)`, `(?P<proto>tcp|udp) dport (?P<port>[^! ]\S*)`,
			`(?:meta )?iif(?:name)? (?P<iface>[^! ]\S*)`, `meta l4proto (?:tcp|udp)`, `meta nfproto ipv[46]`, `ip protocol (?:tcp|udp)`,
			`ip6 nexthdr (?:tcp|udp)`, `ct state (?:\S+,)?new(?:,\S+)?`, `counter(?: packets \d+ bytes \d+)?`,
			`log(?: (?:prefix|level|group) (?:"[^"]*"|\S+))*`, `(?P<limit>limit) rate \S+(?: burst \d+ packets)?`, `(?P<accept>accept)`) +
		`(?: comment .*)?$`),
	"ufw": lazyregexp.New(`^(?:--force )?(?:rule )?(?P<delete>delete )?(?:insert \d+ |prepend )?(?:(?P<accept>allow)|(?P<limit>limit))(?: in)?` +
		`(?: on (?P<iface>\S+))?(?: log| log-all)?(?:` +
		`(?: proto (?P<proto>\S+))?(?: from (?P<from>\S+))?(?: to (?P<to>\S+))? port (?P<port>[^/ ]+)(?:/(?P<proto1>\S+))?(?: proto (?P<proto2>\S+))?|` +
		` (?:[Oo]pen)?(?P<port1>[^/ ]+)(?:/(?P<proto3>tcp|udp))?)(?: comment .*)?$`),
	"firewall-cmd": lazyregexp.New(`^` + clauses(`--permanent`, `-q`, `--quiet`, `--zone[= ](?P<zone>\S+)`, `--timeout[= ](?P<timeout>\S+)`,
		`--(?:add|(?P<delete>remove))-(?P<accept>port)[= ](?P<port>\S+)/(?P<proto>\S+)`, `--(?:add|(?P<delete1>remove))-(?P<accept1>service)[= ](?P<port1>\S+)`,
		`--(?:add|(?P<delete2>remove))-rich-rule[= ]rule`+clauses(`family=\S+`, `priority=\S+`, `source address=(?P<from>\S+)`,
			`destination address=(?P<to>\S+)`, `port port=(?P<port2>\S+) protocol=(?P<proto1>\S+)`, `port protocol=(?P<proto2>\S+) port=(?P<port3>\S+)`,
			`service name=(?P<port4>\S+)`, `(?:log|audit)(?: (?:prefix|level|limit value)=\S+)*`, `(?P<accept2>accept)`, `(?P<limit>limit) value=\S+`)) + `$`),
	// The script that comes with knockd.
	"knock_add": lazyregexp.New(`^` + clauses(`-i`, `--insert`, `(?P<delete>-x|--delete)`, `(?:-c|--chain)[= ](?P<chain>\S+)`, `(?:-p|--proto)[= ](?P<proto>\S+)`,
		`(?:-d|--dstport)[= ](?P<port>\S+)`, `(?:-f|--srcaddr)[= ](?P<from>\S+)`) + `(?P<accept>)$`),
}

var (
	closesUnnamed = lazyregexp.New(`^(nft (-\S+ )*(delete|destroy) (rule|element)|ufw (--force )?delete \d+$|ipset (del|-D)) ?`)
	fillsSet      = lazyregexp.New(`^(nft (-\S+ )*add element|ipset) `)
	changesNone   = lazyregexp.New(`^(ufw (reload|enable|status)|firewall-cmd --(reload|state))$`)

	aroundComma = lazyregexp.New(`\s*,\s*`)
	brackets    = lazyregexp.New(`\{\s*([^{}]*?)\s*\}`)
)

// readCommand reads one command: what it opens, or closes, or what is the problem
// with it.
func readCommand(c *command) (o *opened, closing bool, problem string) {
	program := c.program()
	if callsIptables(program) {
		return iptablesCommand(slices.Clone(c.words[1:]), strings.HasPrefix(program, "ip6"))
	}
	if program == "knock_helper_ipt.sh" {
		program = "knock_add"
	}
	text := brackets().ReplaceAllString(aroundComma().ReplaceAllString(strings.Join(c.words[1:], " "), ","), "$1")
	switch whole := program + " " + text; {
	case closesUnnamed().MatchString(whole):
		return &opened{}, true, ""
	case changesNone().MatchString(whole):
		return &opened{}, false, ""
	case fillsSet().MatchString(whole):
		return nil, false, "it puts the knocker into a set, and the rule that says what the set may do is not in this file"
	case program == "logger" || program == "echo":
		return nil, false, "it writes a note; the policy logs knocks by itself"
	case patterns[program] == nil:
		return nil, false, fmt.Sprintf("%q opens no service that can be told, and postern runs no commands", short(program))
	}
	switch program {
	case "firewall-cmd":
		text = " " + strings.NewReplacer(`"`, "", "'", "").Replace(text)
	case "knock_add":
		text = " " + text
	}
	return translate(patterns[program](), text, "what this command of "+program+" opens cannot be told")
}

// translate reads a command by a pattern, as the rule of iptables that does the
// same.
func translate(pattern *regexp.Regexp, text, unclear string) (o *opened, closing bool, problem string) {
	found := map[string]string{"chain": "INPUT"}
	groups := pattern.FindStringSubmatchIndex(text)
	for i, name := range pattern.SubexpNames() {
		if groups != nil && groups[2*i] >= 0 && name != "" {
			found[strings.TrimRight(name, "0123456789")] = text[groups[2*i]:groups[2*i+1]]
		}
	}
	_, accepts := found["accept"]
	if _, limits := found["limit"]; !accepts && !limits {
		return nil, false, unclear
	}
	o = &opened{}
	port, protocol := found["port"], found["proto"]
	if known, named := wellKnown[strings.ToLower(port)]; named && protocol == "" {
		port, protocol = fmt.Sprint(known.Number), known.Protocol.String()
	} else if protocol == "" && port != "" {
		protocol = "tcp"
		o.notes = append(o.notes, "without proto, ufw opens the port for TCP and UDP; the policy opens it for TCP")
	}
	rule := []string{"-A", found["chain"]}
	if found["delete"] != "" {
		rule[0] = "-D"
	}
	for _, part := range [][2]string{{"-s", found["from"]}, {"-d", found["to"]}, {"-i", found["iface"]}, {"-p", protocol}, {"--dports", strings.ReplaceAll(port, "-", ":")}, {"--limit", found["limit"]}} {
		if part[1] != "" && part[1] != "any" {
			rule = append(rule, part[:]...)
		}
	}
	if zone := found["zone"]; zone != "" {
		o.notes = append(o.notes, "the rule is for the zone "+short(zone)+" alone, and the door for all interfaces that the policy names")
	}
	if t, is := found["timeout"]; is {
		o.timeout = min((&command{words: []string{"sleep", t}}).sleeps(), policy.MaxOpenFor)
	}
	of, closing, problem := iptablesCommand(append(rule, "-j", "ACCEPT"), strings.Contains(found["from"]+found["to"], ":"))
	if of != nil {
		of.notes, of.timeout = append(o.notes, of.notes...), max(o.timeout, 0)
	}
	return of, closing, problem
}
