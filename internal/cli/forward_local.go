package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"postern/internal/hosts"
	"postern/internal/policy"
)

// A local is where forward listens, and where it goes from there.
type local struct {
	bind bind
	port uint16 // 0 is for the system to choose
	to   destination
}

// A bind is which addresses of this machine are listened on.
type bind string

const (
	thisMachine bind = "localhost" // by IPv4 and IPv6
	everywhere  bind = ""
)

// parseLocal reads [ADDRESS:]PORT[:HOST:PORT], as ssh's -L has it. Without HOST:PORT
// the destination is the host's own service.
func parseLocal(text string, h *hosts.Host) (local, error) {
	l := local{bind: thisMachine, to: destination{port: h.Service}}
	fields, ok := colons(text)
	if !ok || len(fields) > 4 {
		return l, wrongLocal(text, text, sayNotUnderstood)
	}
	if len(fields)%2 == 0 {
		if l.bind, ok = parseBind(fields[0]); !ok {
			return l, wrongLocal(text, fields[0], sayNoAddress)
		}
		fields = fields[1:]
	}
	port, err := strconv.ParseUint(fields[0], 10, 16)
	if err != nil {
		return l, wrongLocal(text, fields[0], sayNoPort)
	}
	l.port = uint16(port)
	if len(fields) == 1 {
		return l, nil
	}
	l.to.host = fields[1]
	port, err = strconv.ParseUint(fields[2], 10, 16)
	if err != nil || port == 0 {
		return l, wrongLocal(text, fields[2], sayNoPort)
	}
	l.to.port = policy.Port{Protocol: policy.TCP, Number: uint16(port)}
	// Whoever knows ssh means the other end by it.
	if a, err := netip.ParseAddr(l.to.host); l.to.host == "localhost" || err == nil && a.IsLoopback() {
		return l, loopbackThere(text, l.to.host)
	}
	return l, nil
}

// colons takes text apart at its colons, but for those in brackets.
func colons(text string) ([]string, bool) {
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

func parseBind(text string) (b bind, ok bool) {
	switch text {
	case "", "*":
		return everywhere, true
	case string(thisMachine):
		return thisMachine, true
	}
	_, err := netip.ParseAddr(text)
	return bind(text), err == nil
}

// exposed tells whether other machines can reach it.
func (b bind) exposed() bool {
	a, err := netip.ParseAddr(string(b))
	return b != thisMachine && (err != nil || !a.IsLoopback())
}

// meets tells whether two are to listen at one address and port.
func (l *local) meets(other *local) bool {
	return l.port == other.port && l.port != 0 && (l.bind.covers(other.bind) || other.bind.covers(l.bind))
}

// covers tells whether one bind is the other, or is it among others. (Whether an
// address may be listened on beside all of them depends on the system.)
func (b bind) covers(other bind) bool {
	one, failed := netip.ParseAddr(string(b))
	two, err := netip.ParseAddr(string(other))
	if b == thisMachine && err == nil {
		return two == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || two == netip.IPv6Loopback()
	}
	return b == other || failed == nil && err == nil && one == two
}

// hostPort is where a destination is, and its port.
func (d destination) hostPort(h *hosts.Host) string {
	return net.JoinHostPort(d.at(h), fmt.Sprint(d.port.Number))
}

// at names where a destination is.
func (d destination) at(h *hosts.Host) string {
	if d.host != "" {
		return d.host
	}
	return h.Address
}

// listen begins to listen. The caller must close what it gets.
func (l *local) listen(ctx context.Context) ([]net.Listener, error) {
	if l.bind != thisMachine {
		ln, err := listenOn(ctx, string(l.bind), l.port)
		if err != nil {
			return nil, notListening(net.JoinHostPort(string(l.bind), fmt.Sprint(l.port)), err)
		}
		return []net.Listener{ln}, nil
	}
	const attempts = 10 // a port that is free by IPv4 need not be so by IPv6
	for i := 1; ; i++ {
		all, err := l.listenHere(ctx)
		if err == nil || l.port != 0 || i == attempts {
			return all, err
		}
	}
}

// listenHere listens on both of this machine's own addresses, or on the one that it has.
func (l *local) listenHere(ctx context.Context) ([]net.Listener, error) {
	var all []net.Listener
	port := l.port
	for _, a := range []string{"127.0.0.1", "::1"} {
		ln, err := listenOn(ctx, a, port)
		if err != nil {
			if probe, missing := listenOn(ctx, a, 0); missing != nil {
				continue
			} else {
				probe.Close()
			}
			for _, other := range all {
				other.Close()
			}
			return nil, notListening(net.JoinHostPort(a, fmt.Sprint(port)), err)
		}
		port = uint16(ln.Addr().(*net.TCPAddr).Port)
		all = append(all, ln)
	}
	if len(all) == 0 {
		return nil, noLoopback()
	}
	return all, nil
}

func listenOn(ctx context.Context, address string, port uint16) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", net.JoinHostPort(address, fmt.Sprint(port)))
}
