//go:build linux

package kernels

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// missing are the modules that TestMissing removes.
var missing = []struct{ backend, module string }{
	{"nftables", "nf_tables"},
	{"nftables", "nft_chain_nat"},
	{"nftables", "nft_fib_inet"},
	{"nftables", "nft_reject_inet"},
	{"nftables", "nft_hash"},
	{"nftables", "nft_socket"},
	{"nftables", "tcp_diag"},
	{"iptables", "nf_tables"},
	{"iptables", "nft_compat"},
	{"iptables", "xt_recent"},
	{"iptables", "xt_socket"},
	{"iptables", "xt_hashlimit"},
}

// missingPolicy uses what rules may need of a kernel.
const missingPolicy = `version: 1
posture: guard
backend: %s
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [41830, 7719, 52004]}
  web:
    service: tcp/8443
    forward: 10.0.0.2:443
    knock: {sequence: [41831, 7719, 52004]}
`

// TestMissing removes a module from each kernel and has "up" say what is missing: it exits
// with 5, names the module and how to load it, and loads nothing.
func TestMissing(t *testing.T) {
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, name)
			dir := t.TempDir()
			build(t, "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "postern"), "postern/cmd/postern")
			for _, backend := range []string{"nftables", "iptables"} {
				if err := os.WriteFile(filepath.Join(dir, backend+".yaml"), fmt.Appendf(nil, missingPolicy, backend), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			script := &strings.Builder{}
			script.WriteString(`
# A module that is loaded would still be there.
unload() {
	for _ in 1 2 3 4 5 6 7 8; do lsmod | awk 'NR > 1 && $3 == 0 {print $1}' | xargs -r rmmod 2>/dev/null; done
}
without() { # MODULE BACKEND
	file=$(find /usr/lib/modules -name "$1.ko*")
	[ -n "$file" ] || { echo "there is no module $1"; return 1; }
	mv "$file" /tmp/
	/suite/postern up --no-confirm --yes -f "/suite/$2.yaml"
	code=$?
	/suite/postern down >/dev/null
	mv "/tmp/${file##*/}" "$file"
	unload
	return $code
}
unload
`)
			var chosen []suite
			for _, m := range missing {
				u := suite{name: m.backend + "-without-" + m.module}
				chosen = append(chosen, u)
				fmt.Fprintf(script, "suite %s without %s %s\n", u.name, m.module, m.backend)
			}
			r := &results{now: time.Now, log: t.Logf}
			boot(t, s, dir, script.String(), r)
			for i, u := range chosen {
				t.Run(u.name, func(t *testing.T) {
					ran := r.ran(t, u)
					out := ran.output.String()
					t.Logf("exit %s\n%s", ran.code, out)
					if m := missing[i].module; ran.code != "5" || !strings.Contains(out, m) || !strings.Contains(out, "modprobe") {
						t.Errorf("it does not exit with 5 and name %s and modprobe", m)
					}
				})
			}
		})
	}
}
