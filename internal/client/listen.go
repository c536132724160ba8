package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
)

// A ListenError reports that an address cannot be listened on.
type ListenError struct {
	Address string
	Err     error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot listen on %s: %s", e.Address, cause(e.Err))
}

func (e *ListenError) Unwrap() error { return e.Err }

// Privilege reports whether this user may not listen there.
func (e *ListenError) Privilege() bool { return forbidden(e.Err) && runtime.GOOS != "windows" }

func (e *ListenError) Hints() []string {
	switch {
	case e.Privilege():
		return []string{"ports below 1024 are for root: take one above"}
	case forbidden(e.Err):
		return []string{"Windows reserves it: \"netsh interface ipv4 show excludedportrange tcp\" lists such ports"}
	case taken(e.Err):
		return []string{"another program listens there: take another port, or 0 for any that is free"}
	case notOurs(e.Err):
		return []string{"it must be an address of this machine"}
	case errors.Is(e.Err, errNoLoopback):
		return []string{"name another one, as in 192.0.2.5:8080"}
	}
	return nil
}

var errNoLoopback = errors.New("this machine has no loopback address")

// listen begins to listen. The caller must close the listeners.
func (l *Local) listen(ctx context.Context) ([]net.Listener, error) {
	if l.Bind != Loopback {
		ln, err := listenOn(ctx, string(l.Bind), l.Port)
		if err != nil {
			return nil, &ListenError{l.HostPort(), err}
		}
		return []net.Listener{ln}, nil
	}
	const attempts = 10 // a port that is free on IPv4 may be taken on IPv6
	for i := 1; ; i++ {
		all, err := l.listenLoopback(ctx)
		if err == nil || l.Port != 0 || i == attempts {
			return all, err
		}
	}
}

// listenLoopback listens on both loopback addresses, or on the one that this machine
// has.
func (l *Local) listenLoopback(ctx context.Context) ([]net.Listener, error) {
	var all []net.Listener
	port := l.Port
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
			return nil, &ListenError{net.JoinHostPort(a, fmt.Sprint(port)), err}
		}
		port = uint16(ln.Addr().(*net.TCPAddr).Port)
		all = append(all, ln)
	}
	if len(all) == 0 {
		return nil, &ListenError{l.HostPort(), errNoLoopback}
	}
	return all, nil
}

func listenOn(ctx context.Context, address string, port uint16) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", net.JoinHostPort(address, fmt.Sprint(port)))
}
