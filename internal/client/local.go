package client

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"postern/internal/hosts"
	"postern/internal/policy"
)

// A Local is where a forwarder listens, and where it connects to from there.
type Local struct {
	Bind Bind
	Port uint16 // 0 leaves the choice to the system
	To   Destination
}

// A Bind is which addresses of this machine are listened on: one of them, or one of
// these.
type Bind string

const (
	Loopback Bind = "localhost" // by IPv4 and IPv6
	Anywhere Bind = ""
)

// Exposed reports whether other machines can reach it.
func (b Bind) Exposed() bool {
	a, err := netip.ParseAddr(string(b))
	return b != Loopback && (err != nil || !a.IsLoopback())
}

// ParseLocals reads where to listen, for a host. No two may listen at one place.
func ParseLocals(texts []string, h *hosts.Host) ([]Local, error) {
	all := make([]Local, len(texts))
	for i, text := range texts {
		l, err := parseLocal(text, h)
		if err != nil {
			return nil, err
		}
		if l.To.Port.Protocol != policy.TCP {
			return nil, &NotTCPError{h}
		}
		for j := range i {
			switch {
			case !all[j].meets(&l):
			case texts[j] == text:
				return nil, fmt.Errorf("%q is given twice", text)
			default:
				return nil, fmt.Errorf("%q and %q would listen at the same place", texts[j], text)
			}
		}
		all[i] = l
	}
	return all, nil
}

const localSyntax = "write PORT, ADDRESS:PORT, PORT:HOST:PORT or ADDRESS:PORT:HOST:PORT, and IPv6 addresses in brackets"

// parseLocal reads [ADDRESS:]PORT[:HOST:PORT], as ssh's -L has it. Without HOST:PORT
// the destination is the host's own service.
func parseLocal(text string, h *hosts.Host) (Local, error) {
	fields, ok := splitColons(text)
	wrong := func(part, why string) (Local, error) {
		what := quotePart(text, part) + " " + why
		if better := suggestLocal(fields, h); better != "" {
			return Local{}, fmt.Errorf("%s: did you mean %q?", what, better)
		}
		return Local{}, fmt.Errorf("%s: %s", what, localSyntax)
	}
	if !ok || len(fields) > 4 {
		return wrong(text, "cannot be read")
	}
	l := Local{Bind: Loopback, To: Destination{Port: h.Service}}
	rest := fields
	if len(fields)%2 == 0 {
		if l.Bind, ok = parseBind(fields[0]); !ok {
			return wrong(fields[0], "is not an address of this machine")
		}
		rest = fields[1:]
	}
	if l.Port, ok = parsePort(rest[0]); !ok {
		return wrong(rest[0], "is not a port")
	}
	if len(rest) == 1 {
		return l, nil
	}
	l.To.Host = rest[1]
	number, ok := parsePort(rest[2])
	if !ok || number == 0 {
		return wrong(rest[2], "is not a port")
	}
	l.To.Port = policy.Port{Protocol: policy.TCP, Number: number}
	// Those who know ssh mean the other end by it.
	if a, err := netip.ParseAddr(l.To.Host); l.To.Host == "localhost" || err == nil && a.IsLoopback() {
		return Local{}, fmt.Errorf("%q leads to this machine, as there is no tunnel: to connect to the host that is knocked at, leave %q out", text, l.To.Host)
	}
	return l, nil
}

// quotePart quotes the part of a text that is wrong, after the text if it is not all
// of it.
func quotePart(text, part string) string {
	if part == text {
		return strconv.Quote(text)
	}
	return fmt.Sprintf("%q: %q", text, part)
}

// suggestLocal returns what fields that cannot be read were probably meant to be, or
// "". ssh and others write what is left out in other ways: 8080:443 for port 443 of
// the host itself, or 8080:inner without the port.
func suggestLocal(fields []string, h *hosts.Host) string {
	number := func(i int) bool {
		n, ok := parsePort(fields[i])
		return ok && n > 0
	}
	bind := ""
	if len(fields) > 2 {
		if _, ok := parseBind(fields[0]); ok && fields[0] != "" {
			bind, fields = bracketed(fields[0])+":", fields[1:]
		}
	}
	service := fmt.Sprint(cmp.Or(h.Service.Number, hosts.DefaultPort))
	var text string
	switch {
	case len(fields) == 2 && number(0) && number(1): // 8080:443
		text = fields[0] + "::" + fields[1]
	case len(fields) == 2 && number(0) && isHost(fields[1]): // 8080:inner
		text = fields[0] + ":" + bracketed(fields[1]) + ":" + service
	case len(fields) == 2 && number(1) && isHost(fields[0]): // inner:8080
		text = fields[1] + ":" + bracketed(fields[0]) + ":" + fields[1]
	case len(fields) == 3 && number(0) && number(1) && isHost(fields[2]): // 8080:443:inner
		text = fields[0] + ":" + bracketed(fields[2]) + ":" + fields[1]
	}
	if text == "" {
		return ""
	}
	text = bind + text
	// What is suggested must be right: an inner host may be this machine.
	again, ok := splitColons(text)
	if !ok || len(again) < 3 {
		return ""
	}
	if a, err := netip.ParseAddr(again[len(again)-2]); again[len(again)-2] == "localhost" || err == nil && a.IsLoopback() {
		return ""
	}
	return text
}

// isHost reports whether a text can be the name or the address of a host.
func isHost(text string) bool {
	h := hosts.New("host")
	return h.Set(hosts.KeyAddress, text) == nil
}

// bracketed puts an IPv6 address into the brackets that it needs between colons.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func parsePort(text string) (port uint16, ok bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil
}

// splitColons splits a text at its colons, except those in brackets.
func splitColons(text string) ([]string, bool) {
	var fields []string
	for {
		var field string
		if inner, ok := strings.CutPrefix(text, "["); ok {
			if field, text, ok = strings.Cut(inner, "]"); !ok || text != "" && text[0] != ':' {
				return nil, false
			}
			if _, err := netip.ParseAddr(field); err != nil {
				return nil, false
			}
		} else if i := strings.IndexByte(text, ':'); i >= 0 {
			field, text = text[:i], text[i:]
		} else {
			field, text = text, ""
		}
		fields = append(fields, field)
		if text == "" {
			return fields, true
		}
		text = text[1:]
	}
}

func parseBind(text string) (b Bind, ok bool) {
	switch text {
	case "", "*":
		return Anywhere, true
	case string(Loopback):
		return Loopback, true
	}
	_, err := netip.ParseAddr(text)
	return Bind(text), err == nil
}

// meets reports whether two would listen at the same address and port.
func (l *Local) meets(other *Local) bool {
	return l.Port == other.Port && l.Port != 0 && (l.Bind.contains(other.Bind) || other.Bind.contains(l.Bind))
}

// contains reports whether one bind is the other, or has it among others. (Whether
// an address can be listened on beside all of them depends on the system.)
func (b Bind) contains(other Bind) bool {
	one, failed := netip.ParseAddr(string(b))
	two, err := netip.ParseAddr(string(other))
	if b == Loopback && err == nil {
		return two == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || two == netip.IPv6Loopback()
	}
	return b == other || failed == nil && err == nil && one == two
}

// HostPort is the address and the port of a bind, as programs write them.
func (l *Local) HostPort() string {
	return net.JoinHostPort(string(l.Bind), fmt.Sprint(l.Port))
}
