package draft

import (
	"bufio"
	"io"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/policy"
)

// A Host is what matters to a first policy of the host that Look has asked.
type Host struct {
	Listening []Listener    // for others than this host
	Unclear   []policy.Port // in use, too: by a service, or by a client that the kernel picked it for
	Address   netip.Addr    // at which the caller reaches it; the zero value if that is not known

	loggedInAt  []policy.Port // the ports of the caller's SSH session, as sent and as served
	first, last uint16        // the ports that the kernel picks for clients
	wellKnown   map[policy.Port]bool
	rulesOfOthers
}

// SSH returns the ports that an SSH server listens on: where the caller has logged
// in, where a program of that name listens, or 22.
func (h *Host) SSH() []policy.Port {
	ports := slices.Clone(h.loggedInAt)
	for _, l := range h.Listening {
		if l.Port.Protocol == policy.TCP && slices.Contains(servers, l.Program) && !slices.Contains(ports, l.Port) {
			ports = append(ports, l.Port)
		}
	}
	if len(ports) == 0 && h.Listens(usualSSH) {
		ports = []policy.Port{usualSSH}
	}
	return ports
}

var usualSSH = policy.Port{Protocol: policy.TCP, Number: 22}

// Door returns the name of a door for services.
func (h *Host) Door(services []policy.Port) string {
	for _, s := range services {
		if s == usualSSH || slices.Contains(h.SSH(), s) {
			return "ssh"
		}
	}
	return "service"
}

// servers are the names of SSH servers.
var servers = []string{"sshd", "dropbear"}

// Listens reports whether a program listens on a port.
func (h *Host) Listens(p policy.Port) bool {
	return slices.ContainsFunc(h.Listening, func(l Listener) bool { return l.Port == p })
}

// Avoid reports whether a port is in use here, or likely to be: programs and the
// kernel's own clients should have no part in knocks, nor should the clients of
// well-known services.
func (h *Host) Avoid(p policy.Port) bool {
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		if p := (policy.Port{Protocol: protocol, Number: p.Number}); h.wellKnown[p] || h.Listens(p) {
			return true
		}
	}
	return p.Number >= h.first && p.Number <= h.last
}

// At returns the listener on a port; there need be none.
func (h *Host) At(p policy.Port) Listener {
	for _, l := range h.Listening {
		if l.Port == p {
			return l
		}
	}
	return Listener{Port: p}
}

// Others returns the listeners that are no part of the services, and that others
// may want to reach.
func (h *Host) Others(services []policy.Port) []Listener {
	return slices.DeleteFunc(slices.Clone(h.Listening), func(l Listener) bool {
		return slices.Contains(services, l.Port) || l.Port.IsDHCPClient()
	})
}

// readServices returns the ports of a file as /etc/services: "ssh 22/tcp # remark".
func readServices(r io.Reader) map[policy.Port]bool {
	all := map[policy.Port]bool{}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		number, protocol, _ := strings.Cut(fields[1], "/")
		if p, err := policy.ParsePort(protocol + "/" + number); err == nil {
			all[p] = true
		}
	}
	return all
}
