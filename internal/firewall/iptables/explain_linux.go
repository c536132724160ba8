package iptables

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"postern/internal/firewall"
	"postern/internal/lazyregexp"
)

// explain turns what a program has said into what the caller can do about it.
func explain(f *failure) error {
	says := func(some ...string) bool {
		return slices.ContainsFunc(some, func(text string) bool { return strings.Contains(f.stderr, text) })
	}
	unsupported := func(what, hint string) error {
		return &firewall.UnsupportedError{What: what, Hint: hint + ", or use the nftables backend", Err: f}
	}
	table, extension := tableNamed().FindStringSubmatch(f.stderr), extensionNamed().FindStringSubmatch(f.stderr)
	switch {
	case errors.Is(f.err, exec.ErrNotFound):
		return unsupported("iptables: there is no program "+f.program, "install the package iptables")
	case says("Permission denied", "must be root", "Operation not permitted", "can't open lock file"):
		return &firewall.PermissionError{Err: f}
	case says("xtables lock"):
		return &firewall.BusyError{Err: f}
	case says("Could not fetch rule set generation id"):
		return unsupported("nf_tables, which "+f.program+" needs", "load it with `modprobe nf_tables`")
	case table != nil:
		family, _, _ := strings.Cut(f.program, "tables")
		return unsupported(fmt.Sprintf("table %s for %s", table[1], f.program),
			fmt.Sprintf("load it with `modprobe %stable_%s`", family, table[1]))
	case extension != nil:
		name := extension[1] + extension[2]
		modules := module(name, f.program)
		if f.compat { // without it no extension is there, whichever is named first
			modules = "-a nft_compat " + modules
		}
		return unsupported(fmt.Sprintf("%q for %s", name, f.program), fmt.Sprintf("load it with `modprobe %s`", modules))
	}
	if rule := f.rule(); rule != "" {
		return fmt.Errorf("%s refused the rules: %w: %s", f.program, f, rule)
	}
	if f.input == "" {
		return fmt.Errorf("%s failed: %w", f.program, f)
	}
	return fmt.Errorf("%s refused the rules: %w", f.program, f)
}

var (
	tableNamed     = lazyregexp.New("(?:can't initialize ip6?tables|unable to initialize) table [`']([a-z]+)'")
	extensionNamed = lazyregexp.New("Couldn't load (?:match|target) `([A-Za-z0-9]+)'|" +
		"Extension ([A-Za-z0-9]+) (?:revision [0-9]+ |is )?not supported, missing kernel module")
	lineNumber = lazyregexp.New(`line:? ([0-9]+)`)
)

// rule is the one of ours that the program has named, without the secrets in it: at boot
// it ends in the journal.
func (f *failure) rule() string {
	m := lineNumber().FindStringSubmatch(f.stderr)
	if m == nil {
		return ""
	}
	n, _ := strconv.Atoi(m[1])
	lines := strings.Split(f.input, "\n")
	if n < 1 || n > len(lines) || lines[n-1] == "COMMIT" {
		return ""
	}
	return secrets().ReplaceAllString(lines[n-1], "$1 ...")
}

// secrets are the ports of knocks, and the key of lists in a label.
var secrets = lazyregexp.New(`(--dport|` + labelKey[2:len(labelKey)-1] + `) [0-9a-f:]+`)

// module is the kernel's part of an extension.
func module(extension, program string) string {
	switch {
	case extension == "REJECT" && strings.HasPrefix(program, IPv6.Program()):
		return "ip6t_REJECT"
	case extension == "REJECT":
		return "ipt_REJECT"
	case extension == "DNAT":
		return "xt_nat"
	case extension == "MARK", extension == "CONNMARK":
		return "xt_" + strings.ToLower(extension)
	case extension == "tcp", extension == "udp":
		return "xt_tcpudp"
	}
	return "xt_" + extension
}
