//go:build !(386 || arm || mips || mipsle)

package backends_test

import (
	"encoding/hex"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"postern/internal/firewall/backends"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// A user is one who may log in to the host, and no more.
type user struct {
	name   string
	id     uint32
	groups []uint32
}

var users = []user{
	{"nobody", 65534, nil},
	{"of group adm", 54321, []uint32{4}}, // which reads logs on Debian
}

// TestOtherUsersSeeNothing reads on a host, as other users, all that the kernel shows of its network:
// for them a sender that is knocking, or holds a grant, leaves what one leaves that knows no
// knock.
func TestOtherUsersSeeNothing(t *testing.T) {
	if !lab.RealRoot() {
		t.Skip("only root can become other users")
	}
	for _, b := range backends.All() {
		for _, posture := range []string{labtest.Closed, labtest.Guard} {
			t.Run(b.Name()+"/"+strings.Fields(posture)[3], func(t *testing.T) {
				s := labtest.NewScene(t, b)
				var inside []io.Closer // directories that were entered before the first rule
				for _, name := range []string{"xt_recent", "ipt_hashlimit", "ip6t_hashlimit"} {
					as(t, s.Gateway, users[0], func() {
						if dir, err := os.Open(network + "/" + name); err == nil {
							inside = append(inside, dir)
						}
					})
				}
				s.Up(posture + "doors: {ssh: {service: tcp/22, open_for: 5m, knock: {step_timeout: 5m, sequence: [47011, 5120, 31877]}}}\n")
				labtest.Each(t, func(t *testing.T, f labtest.Family) {
					for _, u := range users {
						seen := func(what string, ports ...policy.Port) map[string]string {
							t.Helper()
							src := s.NewAddress(f)
							s.Knock(src, ports...)
							s.Settled()
							var all map[string]string
							as(t, s.Gateway, u, func() { all = readable(network, inside) })
							for name, text := range all {
								if form := shows(text, src); form != "" {
									t.Errorf("a user %s reads in %s, of a sender %s: %s", u.name, name, what, form)
								}
								all[name] = numbers.ReplaceAllString(text, "#")
							}
							return all
						}
						none := seen("without a knock", labtest.TCP(47012), labtest.TCP(5121), labtest.TCP(31878))
						if len(none) < 20 {
							t.Fatalf("a user %s reads no more than %d files", u.name, len(none))
						}
						for what, knocks := range map[string][]policy.Port{
							"after two knocks":  {labtest.TCP(47011), labtest.TCP(5120)},
							"who holds a grant": {labtest.TCP(47011), labtest.TCP(5120), labtest.TCP(31877)},
						} {
							if d := cmp.Diff(none, seen(what, knocks...)); d != "" {
								t.Errorf("a user %s sees a sender %s (-without a knock +with):\n%s", u.name, what, d)
							}
						}
					}
				})
				for _, u := range users {
					as(t, s.Gateway, u, func() { refused(t, u) })
					inNamespace(t, s.Gateway, u)
				}
				for _, dir := range inside {
					dir.Close()
				}
			})
		}
	}
}

// network is where the kernel shows the network of the calling thread.
const network = "/proc/thread-self/net"

// numbers and the space around them change all the time.
var numbers = regexp.MustCompile(`[0-9a-fA-F \t]+`)

// as calls a function on a host, on a thread that has become another user for ever.
func as(t *testing.T, h *lab.Host, u user, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the function
		done <- func() error {
			if err := unix.Setns(h.NetNS(), unix.CLONE_NEWNET); err != nil {
				return err
			}
			// The raw calls change this thread alone.
			groups := append([]uint32{u.id}, u.groups...)
			if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
				return errno
			}
			for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
				if _, _, errno := unix.RawSyscall(call, uintptr(u.id), uintptr(u.id), uintptr(u.id)); errno != 0 {
					return errno
				}
			}
			f()
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatalf("becoming a user %s: %v", u.name, err)
	}
}

// unsteady are files that change by themselves: other sockets and neighbours.
var unsteady = []string{"netlink", "unix", "packet", "ptype", "arp", "rt_cache", "fib_trie", "fib_triestat", "route", "ipv6_route", "softnet_stat"}

// readable returns what files below a directory have to say, and of those in directories
// that were opened earlier.
func readable(dir string, open []io.Closer) map[string]string {
	all := map[string]string{}
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !slices.Contains(unsteady, d.Name()) {
			if text, err := os.ReadFile(name); err == nil {
				all[name] = string(text)
			}
		}
		return nil
	})
	for _, c := range open {
		dir := c.(*os.File)
		dir.Seek(0, io.SeekStart)
		names, _ := dir.Readdirnames(-1)
		for _, name := range names {
			fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY, 0)
			if err != nil {
				continue
			}
			file := os.NewFile(uintptr(fd), name)
			text, _ := io.ReadAll(file)
			file.Close()
			all[filepath.Join(dir.Name(), name)] = string(text)
		}
	}
	return all
}

// shows returns the form in which a text has an address, or "".
func shows(text string, a netip.Addr) string {
	bytes := a.AsSlice()
	words := slices.Clone(bytes) // as /proc/net/tcp writes them, on most machines
	for i := 0; i+4 <= len(words); i += 4 {
		slices.Reverse(words[i : i+4])
	}
	lower := strings.ToLower(text)
	for _, form := range []string{a.String(), a.StringExpanded(), hex.EncodeToString(bytes), hex.EncodeToString(words)} {
		if strings.Contains(lower, form) {
			return form
		}
	}
	return ""
}

// refused asks the kernel for rules and for notices of them, of connections and of audit.
func refused(t *testing.T, u user) {
	for _, kind := range []struct {
		name         string
		family, last int
	}{
		{"netfilter", unix.NETLINK_NETFILTER, 9},
		{"audit", unix.NETLINK_AUDIT, 1},
	} {
		for group := 1; group <= kind.last; group++ {
			fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, kind.family)
			if err != nil {
				continue // the kernel has none
			}
			if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (group - 1)}); err == nil {
				t.Errorf("a user %s hears group %d of %s", u.name, group, kind.name)
			}
			unix.Close(fd)
		}
	}
}

// inNamespace tries to list rules, as a user and as root of a user namespace of one's own.
func inNamespace(t *testing.T, h *lab.Host, u user) {
	t.Helper()
	for _, command := range []string{
		"nft list ruleset", "iptables-save", "iptables-nft-save", "iptables-legacy-save", "conntrack -L",
		"cat /proc/net/xt_recent/* /proc/net/ip*t_hashlimit/* /proc/net/nf_conntrack", "ls -R /proc/net/xt_recent",
	} {
		for _, by := range []string{"", "unshare --user --map-root-user "} {
			c := h.Command(t.Context(), "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; "+by+command)
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.id, Gid: u.id, Groups: u.groups}}
			out, _ := c.CombinedOutput()
			for _, told := range []string{"47011", "5120", "POSTERN", "postern", "198.51", "2001:0db8"} {
				if strings.Contains(string(out), told) {
					t.Errorf("a user %s gets by %s%s: %s", u.name, by, command, out)
				}
			}
		}
	}
}
