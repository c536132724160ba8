package iptables

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// Formats returns the text forms of the rules.
func Formats() []firewall.Format {
	format := func(name string, write func(*Ruleset, Family, firewall.Style) string, f Family) firewall.Format {
		return firewall.Format{Name: name, Render: func(m *automaton.Machine, s firewall.Style) string { return write(Compile(m), f, s) }}
	}
	return []firewall.Format{
		format("iptables-save", (*Ruleset).Save, IPv4),
		format("ip6tables-save", (*Ruleset).Save, IPv6),
		format("iptables-script", (*Ruleset).Script, IPv4),
		format("ip6tables-script", (*Ruleset).Script, IPv6),
	}
}

// Save writes the rules as iptables-save lists them and iptables-restore reads
// them, for a family's tables that have no other rules.
func (r *Ruleset) Save(f Family, s firewall.Style) string {
	var b strings.Builder
	if s == firewall.Commented {
		b.WriteString(r.heading(f, "Load them with \""+f.Program()+"-restore\". They take the place of all rules in these tables."))
	}
	for _, t := range r.tables[f] {
		t.beginning(&b, s)
		fmt.Fprintf(&b, "*%s\n", t.name)
		chains := t.alone()
		for _, c := range chains {
			policy := c.policy
			if policy == "" {
				policy = "-"
			}
			fmt.Fprintf(&b, ":%s %s [0:0]\n", c.name, policy)
		}
		for _, c := range chains {
			c.section(&b, s)
			for i := range c.rules {
				c.rules[i].comment(&b, s)
				fmt.Fprintf(&b, "-A %s\n", join(c.name, joinMatches(c.rules[i].matches, match.listed), c.rules[i].target.listed()))
			}
		}
		if s == firewall.Commented {
			b.WriteString("\n# From here on it holds, all at once.\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// Script writes the rules as commands with the least that iptables takes.
func (r *Ruleset) Script(f Family, s firewall.Style) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	if s == firewall.Commented {
		b.WriteString(r.heading(f, "Run this as root, on tables that have no rules yet."))
	}
	b.WriteString("set -e\n")
	for _, t := range r.tables[f] {
		command := f.Program()
		if t.name != "filter" {
			command += " -t " + t.name
		}
		say := func(text string) {
			if s == firewall.Commented {
				b.WriteString("\n# " + text + "\n")
			}
		}
		chains := t.alone()
		t.beginning(&b, s)
		say("The lists of the " + t.name + " table.")
		for _, c := range chains {
			if c.policy == "" {
				fmt.Fprintf(&b, "%s -N %s\n", command, c.name)
			}
		}
		// The kernel's own chains come last: they lead to the others only
		// when these are whole.
		for _, called := range []bool{false, true} {
			for _, c := range chains {
				if (c.policy != "") != called {
					continue
				}
				c.section(&b, s)
				for i := range c.rules {
					c.rules[i].comment(&b, s)
					fmt.Fprintf(&b, "%s -A %s\n", command, join(c.name, joinMatches(c.rules[i].matches, match.least), c.rules[i].target.listed()))
				}
			}
		}
		for _, c := range chains {
			if c.policy == "DROP" {
				say("What no rule has decided about is dropped.")
				fmt.Fprintf(&b, "%s -P %s %s\n", command, c.name, c.policy)
			}
		}
	}
	return b.String()
}

// alone returns the chains that a table without other rules has.
func (t *table) alone() []*chain {
	return slices.DeleteFunc(slices.Clone(t.chains), func(c *chain) bool { return c.last != "" })
}

// heading says what the text is, and how to read it.
func (r *Ruleset) heading(f Family, use string) string {
	return fmt.Sprintf(`# Postern, %s rules. They hide services; each must still be safe by itself.
#
# %s
# Connections that the kernel tracks go on. Where nothing has been tracked until now,
# open ones may stall or be refused, the one that you type this on among them: have
# another way in, or use "postern up --backend iptables", which keeps them.
#
# How to read them: a packet for this host begins in the list INPUT, and is held against
# one line after the other. -A names the list that a line belongs to. If all that the line
# asks for is true of the packet, -j says what becomes of it; else the next line is tried.
#
#   -j ACCEPT, DROP, REJECT  it is let in, thrown away, refused: that is the end of it
#   -j LOG, NFLOG            it is noted in the log, and goes on with the next line
#   -j LIST                  it goes on in that list
#   no -j                    only a list of senders is changed; the next line is tried
#   -s -d -i -p --dport      its sender, the address it is for, the interface that it came
#                            in by, its protocol, the port it is for; ! means "not"
#   --tcp-flags              of TCP: what kind of packet it is; SYN alone opens a connection
#   -m conntrack             whether it belongs to a connection that the kernel knows
#   -m addrtype              whether it is for this host (LOCAL), or for many
#   -m recent --name LIST    senders that the kernel remembers. --set puts the packet's own on
#                            the list. --rcheck --seconds N asks whether it was put there no
#                            longer ago. --remove takes it off, and is true if it was there;
#                            --update puts it there again, and is true if it was
#   -m hashlimit, limit      true as long as it does not happen more often than that
#   :INPUT DROP              what becomes of a packet for which the list has no more lines
`, f.Program(), use)
}

// beginning says what a table is for, if it is not the one where packets begin.
func (t *table) beginning(b *strings.Builder, s firewall.Style) {
	if s == firewall.Commented && t.name == "nat" {
		b.WriteString("\n" + `# This table is asked before INPUT, once for each new connection, and only where its
# packets shall go. So ACCEPT means here: to this host alone, where INPUT decides.
# DNAT sends them on to another host, by way of the FORWARD rules, which are yours.
`)
	}
}

// section begins a chain, if it has rules.
func (c *chain) section(b *strings.Builder, s firewall.Style) {
	if s != firewall.Commented || len(c.rules) == 0 {
		return
	}
	fmt.Fprintf(b, "\n# ---- %s ----\n", c.name)
	comment(b, c.doc)
}

func (r *rule) comment(b *strings.Builder, s firewall.Style) {
	if s == firewall.Commented && r.doc != "" {
		b.WriteString("\n")
		comment(b, r.doc)
	}
}

func comment(b *strings.Builder, text string) {
	if text != "" {
		b.WriteString("# " + strings.ReplaceAll(text, "\n", "\n# ") + "\n")
	}
}

// join joins what there is.
func join(all ...string) string {
	var some []string
	for _, w := range all {
		if w != "" {
			some = append(some, w)
		}
	}
	return strings.Join(some, " ")
}

// listed is the match as iptables-save lists it.
func (m match) listed() string { return m.named(m.full, func(t *recentList) string { return t.alone }) }

// least is the match in the fewest words.
func (m match) least() string {
	if m.brief == "" {
		return m.listed()
	}
	return m.named(m.brief, func(t *recentList) string { return t.alone })
}

func (m match) named(text string, name func(*recentList) string) string {
	if m.list == nil {
		return text
	}
	return fmt.Sprintf(text, name(m.list))
}

// listed is the target where there are no other rules.
func (t target) listed() string {
	switch {
	case t.chain != nil: // also what is left alone
		return "-j " + t.chain.name
	case t.pass:
		return "-j ACCEPT"
	}
	return t.verdict
}
