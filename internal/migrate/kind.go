package migrate

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"postern/internal/lazyregexp"
	"postern/internal/policy"
)

var (
	sectionLine = lazyregexp.New(`^\[[^\s\]].*\]$`)
	shellLine   = lazyregexp.New(`^#!.*\b(ba|da|k|z|a)?sh\b`)
	// A command whose program is in a variable: "$FW -A INPUT …".
	variableLine = lazyregexp.New(`^"?\$\{?\w+\}?"? .*(-A|-I|-P|-j|--append|--jump) `)
)

// kindOf finds out what a file is, by the first line that tells.
func kindOf(name string, text []byte) (Kind, error) {
	refuse := func(reason, remedy string) (Kind, error) { return "", &UnknownError{name, reason, remedy} }
	switch {
	case len(text) > policy.MaxSize:
		return refuse("the file is larger than 1 MiB", remedyTooLarge)
	case bytes.IndexByte(text, 0) >= 0:
		return refuse("the file is not text", "")
	case len(bytes.TrimSpace(text)) == 0:
		return refuse("the file is empty", "")
	}
	other := otherKind(text)
	if other != nil && other.first {
		return refuse(other.reason(), other.instead)
	}
	section, shell := false, shellLine().Match(text)
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, " ")
		key, _, _ := strings.Cut(line, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		switch {
		case line == "" || line[0] == '#':
		case !shell && (len(line) > 1 && line[0] == '*' && builtin[line[1:]] != nil || word == "-A" || word == "-N"):
			return Rules, nil
		case sectionLine().MatchString(line):
			section = true
		case section && (key == "sequence" || key == "one_time_sequences"):
			return Knockd, nil
		case !section && (variableLine().MatchString(line) || slices.ContainsFunc(strings.FieldsFunc(line, separates), callsIptables)):
			return Script, nil
		}
	}
	if other != nil {
		return refuse(other.reason(), other.instead)
	}
	return refuse("not a format import understands", "")
}

// separates reports whether a character cannot be in a word of a shell's command.
func separates(r rune) bool { return strings.ContainsRune(" \t=\"'`;&|(){}", r) }

// A foreign kind is one that import does not read, and can name.
type foreign struct {
	is      string
	looks   string // a regular expression, which most runs of the program need not compile
	first   bool   // before what import reads, which it resembles
	instead string // what to do
}

func (f *foreign) reason() string {
	return "not a format import understands; it looks like " + f.is
}

var foreigns = []foreign{
	{"an nft rule set", `(?m)^\s*(table (inet|ip|ip6|arp|bridge|netdev) \S+ *\{|table \S+ \{|(nft )?(add|insert) (table|chain|rule) |flush ruleset)|^\s*nft (add|insert|-f) `, false,
		"import does not read these yet; write the policy by hand: the ports that are added to sets, in their order, are a door's sequence, " +
			"the timeout of those sets is step_timeout, and that of the last one open_for"},
	{"fwknop's access.conf", `(?m)^\s*(OPEN_PORTS|KEY_BASE64|HMAC_KEY_BASE64|REQUIRE_SOURCE_ADDRESS|FW_ACCESS_TIMEOUT|GPG_DECRYPT_ID|KEY:)\b`, false,
		"fwknop opens a port after one signed packet, for which a policy has no word: choose a sequence for each stanza; " +
			"OPEN_PORTS is the door's service, FW_ACCESS_TIMEOUT its open_for, SOURCE its from"},
	{"a csf.conf (ConfigServer Firewall)", `(?m)^\s*(PORTKNOCKING|TCP_IN|TCP6_IN|LF_ALERT_TO|CSF_?\w*)\s*=\s*"`, false,
		"each entry of PORTKNOCKING, as in \"22;TCP;20;100;200;300\", is a door: service tcp/22, step_timeout 20s, sequence [100, 200, 300]; " +
			"or import what csf loads: iptables-save | postern import -"},
	{"a configuration of RouterOS", `(?m)^\s*(/ip(v6)? firewall|add action=\S+ .*\bchain=|add chain=\S+ .*\baction=)`, false,
		"rules with address-list-timeout are its knocks; write the policy by hand, for a Linux host: their dst-port, in order, is a door's " +
			"sequence, and address-list-timeout its step_timeout"},
	{"a file of shorewall", `(?m)^\s*(\?SECTION|SECTION|\?COMMENT|#ACTION\s+SOURCE|#ZONE\s+|(ACCEPT|DROP|REJECT|Limit|SSH\S*|Knock\S*)(\(\S*\))?\s+(net|loc|dmz|all|any)\b)`, false,
		"import what shorewall loads: iptables-save | postern import -"},
	{"ufw's before.rules", `(?m)^:ufw6?-before-input - \[`, true,
		"it is a part of what ufw loads; import the whole: iptables-save | postern import -"},
	{"what \"iptables -L\" prints", `(?m)^Chain \S+ \((policy|\d+ references)`, false,
		"it does not show all of a rule; import what iptables-save prints: iptables-save | postern import -"},
	{"a rule set of pf", `(?m)^\s*(pass|block) (in|out|quick|drop|return|all)\b`, false,
		"write the policy by hand; examples/guard.yaml is a start"},
	{"a policy of postern", `(?m)^posture:\s*(closed|guard)\b`, false,
		"it needs no import: try \"postern check -f FILE\""},
}

// otherKind recognizes a kind that import does not read.
func otherKind(text []byte) *foreign {
	for i := range foreigns {
		f := &foreigns[i]
		whole := f.first && regexp.MustCompile(`(?m)^-A INPUT\b`).Match(text) // iptables-save has that chain as well
		if !whole && regexp.MustCompile(f.looks).Match(text) {
			return f
		}
	}
	return nil
}
