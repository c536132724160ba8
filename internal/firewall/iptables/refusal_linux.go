package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"postern/internal/firewall"
)

// explain turns what a program has said into what the caller can do about it.
func explain(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	said := strings.ToLower(f.stderr)
	switch {
	case errors.Is(f.err, exec.ErrNotFound) || errors.Is(f.err, fs.ErrNotExist):
		return &firewall.UnsupportedError{
			What: "program " + f.program,
			Hint: "install iptables, or use the nftables backend",
			Err:  err,
		}
	case strings.Contains(said, "table does not exist"), strings.Contains(said, "table `") && strings.Contains(said, "incompatible"):
		name := "the table"
		if m := tableNamed.FindStringSubmatch(f.stderr); m != nil {
			name = m[1]
		}
		return &firewall.UnsupportedError{
			What: "table " + name + " for " + f.program,
			Hint: tableHint(f.program, name),
			Err:  err,
		}
	case strings.Contains(said, "permission denied"), strings.Contains(said, "must be root"), strings.Contains(said, "operation not permitted"):
		return &firewall.PermissionError{Err: err}
	case strings.Contains(said, "xtables lock"):
		return &firewall.BusyError{Err: err}
	}
	if m := extension.FindStringSubmatch(f.stderr); m != nil {
		module := module(m[1]+m[2], f)
		return &firewall.UnsupportedError{
			What: "extension " + m[1] + m[2] + " for " + f.program,
			Hint: fmt.Sprintf("load it with `modprobe %s`, or use the nftables backend", module),
			Err:  err,
		}
	}
	if rule := f.rule(); rule != "" {
		return fmt.Errorf("the kernel refused the rules: %w: %s", err, rule)
	}
	return fmt.Errorf("the kernel refused the rules: %w", err)
}

var (
	tableNamed = regexp.MustCompile("[Tt]able `([a-z]+)'")
	extension  = regexp.MustCompile("Couldn't load (?:match|target) `([A-Za-z0-9]+)'|Extension ([A-Za-z0-9]+) (?:revision [0-9]+ |is )?not supported, missing kernel module")
	lineNumber = regexp.MustCompile(`line:? ([0-9]+)`)
)

// rule is the one of ours that the program has named.
func (f *failure) rule() string {
	m := lineNumber.FindStringSubmatch(f.stderr)
	if m == nil {
		return ""
	}
	n, _ := strconv.Atoi(m[1])
	lines := strings.Split(f.input, "\n")
	if n < 1 || n > len(lines) || lines[n-1] == "COMMIT" {
		return ""
	}
	return lines[n-1]
}

// module is the kernel's part of an extension.
func module(extension string, f *failure) string {
	switch {
	case extension == "REJECT" && strings.HasPrefix(f.program, IPv6.Program()):
		return "ip6t_REJECT"
	case extension == "REJECT":
		return "ipt_REJECT"
	case extension == "DNAT":
		return "xt_nat"
	case extension == "tcp", extension == "udp":
		return "xt_tcpudp"
	}
	return "xt_" + extension
}

// tableHint says what makes a table available.
func tableHint(program, table string) string {
	family := strings.TrimSuffix(strings.SplitN(program, "-", 2)[0], "tables") // ip, ip6
	return fmt.Sprintf("load it with `modprobe %stable_%s`, or use the nftables backend", family, table)
}
