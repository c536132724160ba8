//go:build linux

package kernels

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

//go:embed links.sh
var linksScript string

// TestLinks runs the functions of links.sh on each kernel, with both backends: real
// interfaces of kinds that the kernel of the machine that runs the other tests may lack.
func TestLinks(t *testing.T) {
	wanted := regexp.MustCompile(*only)
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, name)
			dir := t.TempDir()
			build(t, "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "postern"), "postern/cmd/postern")
			// Once more as a file, for a function that starts another shell.
			if err := os.WriteFile(filepath.Join(dir, "links"), []byte(linksScript), 0o644); err != nil {
				t.Fatal(err)
			}
			script := &strings.Builder{}
			script.WriteString(linksScript)
			var chosen []suite
			for _, backend := range []string{"nftables", "iptables"} {
				for _, what := range []string{"masters", "vrf", "bond", "bridge", "netem", "wireguard", "tunnels",
					"bond_keys", "bridge_keys", "vlan_keys", "wireguard_keys"} {
					u := suite{name: what + "-" + backend}
					if !wanted.MatchString(u.name) {
						continue
					}
					chosen = append(chosen, u)
					// In a shell of its own, which ends at the first failure.
					fmt.Fprintf(script, "(set -eu; %s %s) >/tmp/out 2>&1\ncode=$?\nsuite %s sh -c 'cat /tmp/out; exit '$code\nclean\n", what, backend, u.name)
				}
			}
			r := &results{now: time.Now, log: t.Logf}
			boot(t, s, dir, script.String(), r)
			for _, u := range chosen {
				t.Run(u.name, func(t *testing.T) {
					ran := r.ran(t, u)
					t.Logf("exit %s\n%s", ran.code, ran.output.String())
					if ran.code != "0" {
						t.Error("it has failed")
					}
				})
			}
		})
	}
}
