package nftables

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/conformance"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	lab.Main(func() int {
		flag.Parse()
		flag.Set("test.parallel", "8") // they wait more than they work
		longestTagged = 10 * time.Minute
		return m.Run()
	})
}

// machine reads a policy of testdata.
func machine(t testing.TB, name string) *automaton.Machine {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return labtest.Compile(t, Backend{}, string(data))
}

var policies = []string{"howto", "everything", "guard", "keys"}

// TestText shows what a policy becomes, for people to read.
func TestText(t *testing.T) {
	for _, name := range policies {
		golden := filepath.Join("testdata", name+".nft")
		got := Compile(machine(t, name)).Render(firewall.Commented)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s has changed (-want +got):\n%s", golden, d)
		}
	}
}

// TestOracle holds the two forms of a rule set to each other: the real nft reads
// the text, the backend loads the value, and nft must list the same. Beside the
// policies of testdata it does so for random ones.
func TestOracle(t *testing.T) {
	t.Parallel()
	machines := map[string]*automaton.Machine{}
	for _, name := range policies {
		machines[name] = machine(t, name)
	}
	seed := rand.Uint64N(1e9)
	random, err := conformance.Machines(seed, 25)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range random {
		machines[fmt.Sprintf("random-%d-%d", seed, i)] = m
	}
	for name, m := range machines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.NewT(t)
			byNetlink := l.Host("netlink")
			if err := byNetlink.Do(func() error { return Backend{}.Apply(m) }); err != nil {
				t.Fatal(err)
			}
			got := list(t, byNetlink)
			if !strings.Contains(got, "goto judge") {
				t.Errorf("nothing was loaded:\n%s", got)
			}
			for style, host := range map[firewall.Style]string{firewall.Plain: "plain", firewall.Commented: "commented"} {
				byText := l.Host(host)
				load := byText.Command(t.Context(), "nft", "-f", "-")
				r := Compile(m)
				r.addDecoys(m)
				load.Stdin = strings.NewReader(r.Render(style))
				if out, err := load.CombinedOutput(); err != nil {
					t.Fatalf("nft does not read our text: %v\n%s", err, out)
				}
				if d := cmp.Diff(list(t, byText), got); d != "" {
					t.Errorf("nft lists them differently (-text +netlink):\n%s", d)
				}
			}
		})
	}
}

// list returns a host's rule set, with the elements of hashed sets in one order, and without
// the codes of what is counted early, which are random.
func list(t *testing.T, h *lab.Host) string {
	t.Helper()
	// A listing lacks elements while the kernel gives a hash table another size: see dumpWhole.
	last := ""
	for range maxListings {
		now := listOnce(t, h)
		if now == last {
			break
		}
		last = now
	}
	return last
}

func listOnce(t *testing.T, h *lab.Host) string {
	t.Helper()
	out, err := h.Command(t.Context(), "nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft list: %v\n%s", err, out)
	}
	return elements.ReplaceAllStringFunc(earlyCodes.ReplaceAllString(string(out), "$1"), func(text string) string {
		list := strings.Split(strings.TrimSuffix(strings.TrimPrefix(text, "elements = {"), "}"), ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		slices.Sort(list)
		return "elements = { " + strings.Join(list, "\n") + " }"
	})
}

var (
	elements   = regexp.MustCompile(`elements = \{[^}]*\}`)
	earlyCodes = regexp.MustCompile(`(map counted \{\n\t\ttype classid : verdict\n)\t\telements = \{[^}]*\}\n`)
)
