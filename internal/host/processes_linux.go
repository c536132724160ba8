package host

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"postern/internal/policy"
)

// processes are those of this machine that the caller may look at.
type processes struct {
	folder string // /proc
}

func (p *processes) read(pid int, name string) []byte {
	text, err := os.ReadFile(filepath.Join(p.folder, strconv.Itoa(pid), name))
	if err != nil {
		return nil
	}
	return text
}

// field returns a line of a process's status.
func (p *processes) field(pid int, name string) string {
	for line := range strings.Lines(string(p.read(pid, "status"))) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// name returns what a process calls itself; the kernel keeps 15 octets of it.
func (p *processes) name(pid int) string { return p.field(pid, "Name") }

// parent returns a process's parent; 0 if it is not known.
func (p *processes) parent(pid int) int {
	n, _ := strconv.Atoi(p.field(pid, "PPid"))
	return n
}

// environment returns the log-in that a process was started with.
func (p *processes) environment(pid int) (Way, bool) {
	for entry := range bytes.SplitSeq(p.read(pid, "environ"), []byte{0}) {
		if value, found := strings.CutPrefix(string(entry), "SSH_CONNECTION="); found {
			return parseConnection(value)
		}
	}
	return Way{}, false
}

// parseConnection reads "198.51.100.7 50022 192.0.2.1 22".
func parseConnection(text string) (Way, bool) {
	fields := strings.Fields(text)
	if len(fields) != 4 {
		return Way{}, false
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		address, err := netip.ParseAddr(fields[2*i])
		if err != nil {
			return Way{}, false
		}
		port, err := strconv.ParseUint(fields[2*i+1], 10, 16)
		if err != nil {
			return Way{}, false
		}
		ends[i] = netip.AddrPortFrom(address.Unmap().WithZone(""), uint16(port))
	}
	return Way{By: "SSH", Protocol: policy.TCP, Remote: ends[0], Local: ends[1]}, true
}

// all returns the processes that exist.
func (p *processes) all() []int {
	folders, err := os.ReadDir(p.folder)
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range folders {
		if pid, err := strconv.Atoi(f.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descriptors returns the open files of a process by number: "socket:[4711]".
func (p *processes) descriptors(pid int) (numbers []int, files map[int]string) {
	folder := filepath.Join(p.folder, strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, nil
	}
	files = map[int]string{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if to, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil {
			numbers, files[n] = append(numbers, n), to
		}
	}
	slices.Sort(numbers)
	return numbers, files
}

// inodes returns the sockets of a process, in the order of its descriptors.
func (p *processes) inodes(pid int) []uint32 {
	var all []uint32
	numbers, files := p.descriptors(pid)
	for _, n := range numbers {
		var inode uint32
		if _, err := fmt.Sscanf(files[n], "socket:[%d]", &inode); err == nil {
			all = append(all, inode)
		}
	}
	return all
}

// owners returns the processes that have a socket open, the oldest first.
func (p *processes) owners(inode uint32) []int {
	if inode == 0 {
		return nil
	}
	var found []int
	for _, pid := range p.all() {
		if slices.Contains(p.inodes(pid), inode) {
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found
}

// holders returns the processes with an open file of which the kernel's notes have a
// line: fdinfo of a terminal's master has "tty-index", of a tunnel's device "iff".
func (p *processes) holders(file, line string) []int {
	var found []int
	for _, pid := range p.all() {
		numbers, files := p.descriptors(pid)
		for _, n := range numbers {
			if files[n] != file {
				continue
			}
			notes := strings.Split(string(p.read(pid, "fdinfo/"+strconv.Itoa(n))), "\n")
			if slices.ContainsFunc(notes, func(note string) bool { return strings.Join(strings.Fields(note), " ") == line }) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// terminal returns the process that serves a process's terminal; 0 if there is none.
func (p *processes) terminal(pid int) int {
	// The name, in brackets, may hold anything. After it: state, parent, group,
	// session, terminal.
	_, rest, found := strings.Cut(string(p.read(pid, "stat")), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 5 {
		return 0
	}
	device, _ := strconv.ParseUint(fields[4], 10, 32)
	const first, last = 136, 143 // UNIX98_PTY_SLAVE_MAJOR
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	if major < first || major > last {
		return 0
	}
	for _, file := range terminalMasters {
		for _, holder := range p.holders(file, fmt.Sprintf("tty-index: %d", (major-first)<<8|minor)) {
			return holder
		}
	}
	return 0
}

// terminalMasters are the files that a server of terminals opens.
var terminalMasters = []string{"/dev/ptmx", "/dev/pts/ptmx"}

// servesTerminal reports whether a process is at the other end of a terminal.
func (p *processes) servesTerminal(pid int) bool {
	_, files := p.descriptors(pid)
	for _, file := range files {
		if slices.Contains(terminalMasters, file) {
			return true
		}
	}
	return false
}

// attached returns the clients of a terminal multiplexer's server: those of the same
// user, as the kernel does not say which of the user's servers each belongs to.
func (p *processes) attached(pid int) []int {
	server := p.multiplexer(pid)
	client := map[string]string{"tmux: server": "tmux: client", "SCREEN": "screen"}[server]
	if client == "" {
		return nil
	}
	var found []int
	for _, other := range p.all() {
		if p.multiplexer(other) == client && p.field(other, "Uid") == p.field(pid, "Uid") {
			found = append(found, other)
		}
	}
	return found
}

// multiplexer returns a process's name as multiplexers have it: "tmux: server",
// "tmux: client", "SCREEN" for a server of screen, which has but its first argument to be
// known by, and "screen" for a client.
func (p *processes) multiplexer(pid int) string {
	name := p.name(pid)
	if first, _, _ := bytes.Cut(p.read(pid, "cmdline"), []byte{0}); name == "screen" && string(first) == "SCREEN" {
		return "SCREEN"
	}
	return name
}
