package host

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"postern/internal/policy"
)

// WayIn returns the paths on which the packets of the program's caller come to this
// host, in the network namespace of the calling thread: none for a console or a
// timer. The first is the one that they logged in by. What carries it, as a tunnel
// of this host, follows.
//
// The process's ancestors lead there: one of them has the connection, whatever the
// environment says. Where it comes from this host itself ("ssh localhost", a
// forwarded port) the process at its other end does, and so on to the outside. A
// terminal of tmux or screen belongs to those who are attached to it.
//
// Root sees all of it. Others may have to believe SSH_CONNECTION.
func WayIn() []Way {
	w := newWalk("/proc")
	self, err := os.Readlink("/proc/self") // os.Getpid may be of another namespace than /proc
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(self)
	if err != nil {
		return nil
	}
	ways := w.from(pid)
	for i := 0; i < len(ways) && len(ways) < maxWays; i++ { // more are added meanwhile
		ways[i].Original = original(ways[i])
		ways[i].Through = through(ways[i])
		for _, outer := range w.carriers(ways[i]) {
			if !slices.ContainsFunc(ways, outer.same) {
				ways = append(ways, outer)
			}
		}
	}
	return ways
}

// maxWays is more tunnels than anyone nests.
const maxWays = 16

// same reports whether two ways are one port for one sender.
func (w Way) same(other Way) bool {
	return w.Protocol == other.Protocol && w.Remote == other.Remote && w.Local == other.Local
}

// A walk looks for the way in among the processes.
type walk struct {
	processes
	sockets
	here    func(netip.Addr) bool // whether an address is this host's own
	visited map[int]bool
}

func newWalk(proc string) *walk {
	return &walk{processes: processes{folder: proc}, here: own, visited: map[int]bool{}}
}

// from returns the ways of the caller of a process.
func (w *walk) from(pid int) []Way {
	var named *Way // by SSH_CONNECTION, as the process next to its server has it
	for last := 0; pid > 1 && !w.visited[pid]; {
		w.visited[pid] = true
		if s, ok := w.environment(pid); ok && named == nil {
			named = &s
		}
		if way, ok := w.login(pid, named); ok {
			return w.outermost(way)
		}
		if way, ok := w.mosh(pid, named); ok {
			// They would log in again by SSH.
			ways := []Way{way}
			if named != nil {
				ways = append(ways, *named)
			}
			return ways
		}
		if clients := w.attached(pid); len(clients) > 0 {
			var ways []Way
			for _, client := range clients {
				for _, way := range w.from(client) {
					if !slices.ContainsFunc(ways, way.same) {
						ways = append(ways, way)
					}
				}
			}
			return ways
		}
		last, pid = pid, w.parent(pid)
		if pid <= 1 {
			// Nobody's child any more, or started for another process, as by run0:
			// the terminal is still that of the caller.
			pid = w.terminal(last)
		}
	}
	if named == nil || !w.here(named.Local.Addr()) {
		return nil
	}
	return w.outermost(*named)
}

// outermost follows a log-in from this host itself to the one before it.
func (w *walk) outermost(way Way) []Way {
	if !w.here(way.Remote.Addr()) {
		return []Way{way}
	}
	for _, pid := range w.owners(w.tcp(way.Remote, way.Local)) {
		if w.visited[pid] {
			continue
		}
		return w.from(pid) // none if that is a console's
	}
	return []Way{way}
}

// login returns the connection that a process serves: the one that SSH_CONNECTION
// names, or one to a port that is listened on. A daemon that listens itself has
// connections of which ours need not be one, unless it serves a terminal.
func (w *walk) login(pid int, named *Way) (Way, bool) {
	var found *tcpSocket
	inodes := w.inodes(pid)
	daemon := slices.ContainsFunc(inodes, w.listener) && !w.servesTerminal(pid)
	for _, inode := range inodes {
		s := w.connection(inode)
		switch {
		case s == nil:
		case named != nil && s.local == named.Local && s.remote == named.Remote:
			return *named, true
		case found == nil && !daemon && w.listens(s.local):
			found = s
		}
	}
	if found == nil {
		return Way{}, false
	}
	by := w.name(pid)
	if strings.HasPrefix(by, "sshd") {
		by = "SSH"
	}
	return Way{By: by, Protocol: policy.TCP, Remote: found.remote, Local: found.local}, true
}

// mosh returns the port of a mosh server. Who sends to it is known only from when
// they logged in; they may have moved.
func (w *walk) mosh(pid int, named *Way) (Way, bool) {
	if w.name(pid) != "mosh-server" {
		return Way{}, false
	}
	for _, inode := range w.inodes(pid) {
		local, ok := w.datagrams(inode)
		if !ok {
			continue
		}
		way := Way{By: "mosh", Protocol: policy.UDP, Local: local}
		if named != nil {
			way.Remote = netip.AddrPortFrom(named.Remote.Addr(), 0)
			if local.Addr().IsUnspecified() {
				way.Local = netip.AddrPortFrom(named.Local.Addr(), local.Port())
			}
		}
		return way, true
	}
	return Way{}, false
}

// own reports whether an address is this host's own.
func own(address netip.Addr) bool {
	if address.IsLoopback() {
		return true
	}
	_, here := Interface(address)
	return here
}

// through returns the interface under which the packets of a way arrive.
func through(way Way) string {
	name, here := Interface(way.Local.Addr())
	if !here || way.Local.Addr().IsUnspecified() {
		name = Towards(way.Remote.Addr())
	}
	if all, err := Masters(); err == nil && all[name] != "" {
		return all[name]
	}
	return name
}
