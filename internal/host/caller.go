package host

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Session is the remote log-in that the caller works in.
type Session struct {
	From netip.Addr     // the caller's own address
	To   netip.AddrPort // of this host
}

// maxAncestors is more shells than anyone nests.
const maxAncestors = 64

// Caller finds the SSH session that a process was started in. sshd leaves it in
// the environment, SSH_CONNECTION; sudo takes it out, so that the parents of the
// process are asked, too. (The oldest of them has not been through sudo.) The
// file system is /proc.
func Caller(proc string, pid int) (Session, bool) {
	for range maxAncestors {
		environment, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "environ"))
		if err == nil {
			for entry := range bytes.SplitSeq(environment, []byte{0}) {
				if value, found := strings.CutPrefix(string(entry), "SSH_CONNECTION="); found {
					if s, err := parseSession(value); err == nil {
						return s, true
					}
				}
			}
		}
		if pid = parent(proc, pid); pid <= 1 {
			break
		}
	}
	return Session{}, false
}

// parseSession reads "198.51.100.7 50022 192.0.2.1 22".
func parseSession(text string) (s Session, err error) {
	fields := strings.Fields(text)
	if len(fields) != 4 {
		return s, fmt.Errorf("%q is not four words", text)
	}
	if s.From, err = netip.ParseAddr(fields[0]); err != nil {
		return s, err
	}
	to, err := netip.ParseAddr(fields[2])
	if err != nil {
		return s, err
	}
	port, err := strconv.ParseUint(fields[3], 10, 16)
	if err != nil {
		return s, err
	}
	s.From = s.From.Unmap().WithZone("")
	s.To = netip.AddrPortFrom(to.Unmap().WithZone(""), uint16(port))
	return s, nil
}

// parent returns a process's parent; 0 if it is not known.
func parent(proc string, pid int) int {
	status, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "PPid:"); found {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}
