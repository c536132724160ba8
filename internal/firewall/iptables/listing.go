package iptables

import (
	"fmt"
	"strconv"
	"strings"
)

// A loadedTable is one table as iptables-save lists it.
type loadedTable struct {
	table  string
	chains []listedChain
	hidden bool // it has rules that only nft can list, so that its content is unknown
}

type listedChain struct {
	name, policy string // the policy is "-" of a chain that the kernel does not call
	rules        []listedRule
}

type listedRule struct {
	text           string // "-A INPUT -j ACCEPT"
	packets, bytes uint64
}

// parseLoaded reads what iptables-save -c writes: the tables that there are.
func parseLoaded(text string) (map[string]*loadedTable, error) {
	all := map[string]*loadedTable{}
	var now *loadedTable
	var c *listedChain
	for _, line := range statements(text) {
		line = strings.TrimSpace(line)
		unreadable := fmt.Errorf("iptables-save writes %q, which Postern cannot read", line)
		switch {
		case strings.HasPrefix(line, "# Table `") && strings.HasSuffix(line, "' is incompatible, use 'nft' tool."):
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "# Table `"), "'")
			all[name] = &loadedTable{table: name, hidden: true}
		case line == "" || line[0] == '#':
		case line[0] == '*':
			now, c = &loadedTable{table: line[1:]}, nil
			all[now.table] = now
		case line == "COMMIT":
			now = nil
		case now == nil:
			return nil, unreadable
		case line[0] == ':':
			fields := strings.Fields(line[1:])
			if len(fields) < 2 {
				return nil, unreadable
			}
			now.chains, c = append(now.chains, listedChain{name: fields[0], policy: fields[1]}), nil
		default:
			rule, ok := parseListed(line)
			if !ok {
				return nil, unreadable
			}
			if c == nil || c.name != rule.chain() { // they are listed chain by chain
				c = now.chain(rule.chain())
			}
			if c == nil {
				return nil, unreadable
			}
			c.rules = append(c.rules, rule)
		}
	}
	if now != nil {
		return nil, fmt.Errorf("iptables-save does not end table %s with COMMIT, so that Postern has not read all of it", now.table)
	}
	return all, nil
}

// statements splits a listing at the ends of lines, but for those within quotes: the
// comment of a rule may have several lines.
func statements(text string) []string {
	var all []string
	begun, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch isRule := text[begun] == '['; {
		case text[i] == '\n' && !quoted:
			all = append(all, text[begun:i])
			begun = i + 1
		case text[i] == '"' && isRule:
			quoted = !quoted
		case text[i] == '\\' && quoted:
			i++
		}
	}
	return append(all, text[begun:])
}

// parseListed reads "[12:3456] -A INPUT -j ACCEPT".
func parseListed(line string) (r listedRule, ok bool) {
	counters, text, ok := strings.Cut(strings.TrimPrefix(line, "["), "] ")
	packets, bytes, ok2 := strings.Cut(counters, ":")
	if !ok || !ok2 || !strings.HasPrefix(text, "-A ") {
		return r, false
	}
	var err, err2 error
	r.text = text
	r.packets, err = strconv.ParseUint(packets, 10, 64)
	r.bytes, err2 = strconv.ParseUint(bytes, 10, 64)
	return r, err == nil && err2 == nil
}

// chain is the one that a rule stands in.
func (r *listedRule) chain() string {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.text, "-A "), " ")
	return name
}

// rest is what follows -A, -I or -D.
func (r *listedRule) rest() string { return strings.TrimPrefix(r.text, "-A ") }

// leadsTo is the chain or target that a rule goes to.
func (r *listedRule) leadsTo() string { return option(r.text, "-j", "-g") }

// chain returns a chain, or nil. A table that is not there has none.
func (l *loadedTable) chain(name string) *listedChain {
	if l != nil {
		for i := range l.chains {
			if l.chains[i].name == name {
				return &l.chains[i]
			}
		}
	}
	return nil
}

// option returns the value of the last of the options that a rule has.
func option(rule string, names ...string) string {
	value := ""
	all := arguments(rule)
	for i, a := range all[:max(0, len(all)-1)] {
		for _, name := range names {
			if a == name {
				value = all[i+1]
			}
		}
	}
	return value
}

// arguments splits a rule as iptables-restore does: at spaces that are not between
// double quotes, in which a backslash takes away the meaning of what follows it.
func arguments(rule string) []string {
	var all []string
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(rule); i++ {
		switch c := rule[i]; {
		case c == '"':
			quoted, begun = !quoted, true
		case c == '\\' && quoted && i+1 < len(rule):
			i++
			word.WriteByte(rule[i])
		case c == ' ' && !quoted:
			if begun {
				all = append(all, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		all = append(all, word.String())
	}
	return all
}
