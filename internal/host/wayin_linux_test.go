package host

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A process, as /proc has it.
type process struct {
	pid, parent int
	environment []string // nil: it may not be read
}

func TestNamedWay(t *testing.T) {
	ssh := "SSH_CONNECTION=198.51.100.7 50022 192.0.2.1 22"
	for _, test := range []struct {
		name      string
		processes []process
		want      string
	}{
		{"own environment", []process{{9, 1, []string{"A=b", ssh}}}, "198.51.100.7 192.0.2.1:22"},
		{"on the console", []process{{9, 8, []string{"A=b"}}, {8, 1, []string{"A=b"}}}, ""},
		{"through sudo", []process{
			{9, 8, []string{"SUDO_USER=me"}}, {8, 7, []string{"SUDO_USER=me"}}, {7, 6, []string{ssh, "A=b"}}, {6, 1, nil},
		}, "198.51.100.7 192.0.2.1:22"},
		{"a parent that may not be read", []process{
			{9, 8, []string{"A=b"}}, {8, 7, nil}, {7, 1, []string{ssh}},
		}, "198.51.100.7 192.0.2.1:22"},
		{"the nearest counts", []process{
			{9, 8, []string{"SSH_CONNECTION=2001:db8::7 50022 2001:db8::1 2222"}}, {8, 1, []string{ssh}},
		}, "2001:db8::7 [2001:db8::1]:2222"},
		{"IPv4 in IPv6", []process{{9, 1, []string{"SSH_CONNECTION=::ffff:198.51.100.7 1 ::ffff:192.0.2.1 22"}}},
			"198.51.100.7 192.0.2.1:22"},
		{"link-local", []process{{9, 1, []string{"SSH_CONNECTION=fe80::7%eth0 1 fe80::1%eth0 22"}}}, "fe80::7 [fe80::1]:22"},
		{"nonsense", []process{{9, 8, []string{"SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535"}}, {8, 1, []string{"SSH_CONNECTION="}}}, ""},
		{"a circle", []process{{9, 8, []string{}}, {8, 9, []string{}}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			proc := t.TempDir()
			for _, p := range test.processes {
				dir := filepath.Join(proc, fmt.Sprint(p.pid))
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				write := func(name, text string) {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				write("status", fmt.Sprintf("Name:\tsh\nPid:\t%d\nPPid:\t%d\n", p.pid, p.parent))
				if p.environment != nil {
					write("environ", strings.Join(p.environment, "\x00")+"\x00")
				}
			}
			w := newWalk(proc)
			w.here = func(a netip.Addr) bool {
				return slices.Contains([]string{"192.0.2.1", "2001:db8::1", "fe80::1"}, a.String())
			}
			got := ""
			for _, way := range w.from(9) {
				got += fmt.Sprint(way.Remote.Addr(), " ", way.Local)
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
