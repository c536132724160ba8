//go:build linux

package kernels

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/lab"
)

// TestReaders has each Debian's nft load what "show" prints, of the examples and of the
// policies of the nftables backend's own tests, and load again what it then lists. The
// kernel is that of the machine that runs the test.
func TestReaders(t *testing.T) {
	var releases []string
	for _, name := range names(t) {
		if !strings.Contains(name, "-") { // backports have the same nft
			releases = append(releases, name)
		}
	}
	program := filepath.Join(t.TempDir(), "postern")
	build(t, "build", "-trimpath", "-o", program, "postern/cmd/postern")
	policies, _ := filepath.Glob("../../examples/*.yaml")
	own, _ := filepath.Glob("../firewall/nftables/testdata/*.yaml")
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			root := filepath.Join(debianRoot(t, release), "root")
			nft := func(h *lab.Host, args ...string) (string, error) {
				out, err := h.Command(t.Context(), "chroot", append([]string{root, "nft"}, args...)...).CombinedOutput()
				return string(out), err
			}
			for _, policy := range append(policies, own...) {
				name := filepath.Base(filepath.Dir(policy)) + "/" + filepath.Base(policy)
				// nft 0.9 reads no DNAT by a map whose key has three parts, which a forwarded
				// door with an address has. (So docs/kernels.md.)
				refused := release == "bullseye" && name == "testdata/everything.yaml"
				t.Run(name, func(t *testing.T) {
					text, err := exec.Command(program, "show", "-f", policy).Output()
					if err != nil || !bytes.Contains(text, []byte("table inet postern")) {
						t.Fatalf("show: %v\n%s", err, text)
					}
					h := lab.NewT(t).Host("gw")
					load := func(text []byte) {
						t.Helper()
						// nft 0.9 opens /dev/stdin, and the system has no /dev.
						file, err := os.CreateTemp(filepath.Join(root, "tmp"), "")
						if err != nil {
							t.Fatal(err)
						}
						defer os.Remove(file.Name())
						if _, err := file.Write(text); err != nil {
							t.Fatal(err)
						}
						file.Close()
						if out, err := nft(h, "-f", "/tmp/"+filepath.Base(file.Name())); (err != nil) != refused {
							t.Errorf("nft -f: %v\n%s", err, out)
						}
					}
					load(text)
					if refused {
						return
					}
					listing, err := nft(h, "list", "ruleset")
					if err != nil || !strings.Contains(listing, "table inet postern") {
						t.Fatalf("nft list ruleset: %v\n%s", err, listing)
					}
					if out, err := nft(h, "flush", "ruleset"); err != nil {
						t.Fatal(err, out)
					}
					load([]byte(listing))
				})
			}
		})
	}
}
