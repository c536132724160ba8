package iptables

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	// As an ordinary user iptables-legacy cannot use the lock of the system.
	// It keeps the first one, which it has made before it became root of a lab.
	const variable = "XTABLES_LOCKFILE"
	if os.Getenv(variable) == "" {
		lock := filepath.Join(os.TempDir(), fmt.Sprintf("xtables.%d.lock", os.Getuid()))
		if err := os.Setenv(variable, lock); err != nil {
			panic(err)
		}
	}
	lab.Main(func() int {
		flag.Parse()
		flag.Set("test.parallel", "8") // they wait more than they work
		return m.Run()
	})
}

// variants are the two programs that there are.
var variants = []string{"nft", "legacy"}

// howto is the policy that means the how-to's rules.
const howto = "../../../examples/howto.yaml"

var policies = map[string]string{
	"howto":      howto,
	"doors":      "testdata/doors.yaml",
	"everything": "testdata/everything.yaml",
	"guard":      "testdata/guard.yaml",
	"keys":       "testdata/keys.yaml",
}

// machine reads a policy.
func machine(t testing.TB, file string) *automaton.Machine {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return labtest.Compile(t, Backend{}, string(data))
}

// TestText shows what policies become, for people to read.
func TestText(t *testing.T) {
	for name, file := range policies {
		r := Compile(machine(t, file))
		shared := func(f Family) string {
			text := ""
			for _, g := range r.shared(f, nil) {
				text += g.text()
			}
			return text
		}
		for form, got := range map[string]string{
			"iptables-save":    r.Save(IPv4, firewall.Commented),
			"plain-save":       r.Save(IPv4, firewall.Plain),
			"ip6tables-save":   r.Save(IPv6, firewall.Commented),
			"iptables-script":  r.Script(IPv4, firewall.Commented),
			"ip6tables-script": r.Script(IPv6, firewall.Plain),
			"shared":           shared(IPv4),
			"shared6":          shared(IPv6),
		} {
			golden := filepath.Join("testdata", name+"."+form)
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
}

// TestHowTo holds our rules to the how-to's: both are loaded by the real
// iptables-restore, and the script by a shell, and the real iptables-save must list
// the same, rule for rule.
func TestHowTo(t *testing.T) {
	theirs, err := os.ReadFile("../../../bench/howto.rules")
	if err != nil {
		t.Fatal(err)
	}
	r := Compile(machine(t, howto))
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			l := lab.NewT(t)
			load := func(host string, family Family, text string) string {
				h := l.Host(host)
				restore(t, h, program(variant, family, "restore"), text)
				return listed(t, h, program(variant, family, "save"))
			}
			want := load("howto", IPv4, string(theirs))
			if n := strings.Count(want, "\n-A "); n != 25 {
				t.Fatalf("the how-to has 25 rules, and %d are listed:\n%s", n, want)
			}
			for host, text := range map[string]string{"plain": r.Save(IPv4, firewall.Plain), "commented": r.Save(IPv4, firewall.Commented)} {
				if d := cmp.Diff(want, load(host, IPv4, text)); d != "" {
					t.Errorf("the %s text and the how-to load different rules (-how-to +ours):\n%s", host, d)
				}
			}
			if d := cmp.Diff(want, byScript(t, l.Host("script"), variant, IPv4, r)); d != "" {
				t.Errorf("the script and the how-to load different rules (-how-to +ours):\n%s", d)
			}
		})
	}
}

// TestListing holds the three forms to one another: what iptables lists of the
// loaded text is the text, and the script's rules are the same.
func TestListing(t *testing.T) {
	t.Parallel()
	for name, file := range policies {
		r := Compile(machine(t, file))
		for _, variant := range variants {
			for _, f := range families {
				t.Run(fmt.Sprintf("%s %s %s", name, variant, f.Program()), func(t *testing.T) {
					t.Parallel()
					l := lab.NewT(t)
					h := l.Host("text")
					restore(t, h, program(variant, f, "restore"), r.Save(f, firewall.Commented))
					got := listed(t, h, program(variant, f, "save"))
					if d := cmp.Diff(normal(r.Save(f, firewall.Plain)), got); d != "" {
						t.Errorf("it is listed otherwise (-text +listed):\n%s", d)
					}
					if d := cmp.Diff(got, byScript(t, l.Host("script"), variant, f, r)); d != "" {
						t.Errorf("the script and the text load different rules (-text +script):\n%s", d)
					}
				})
			}
		}
	}
}

// program is a family's command of a variant: iptables-legacy-save.
func program(variant string, f Family, what string) string {
	name := f.Program()
	if variant != "" {
		name += "-" + variant
	}
	if what == "" {
		return name
	}
	return name + "-" + what
}

// restore loads rules in the place of those that are there.
func restore(t *testing.T, h *lab.Host, program, text string) {
	t.Helper()
	load(t, h.Command(t.Context(), program), text)
}

// insert loads rules beside those that are there.
func insert(t *testing.T, h *lab.Host, program, text string) {
	t.Helper()
	load(t, h.Command(t.Context(), program, "--noflush"), text)
}

func load(t *testing.T, cmd *lab.Cmd, text string) {
	t.Helper()
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s\nof\n%s", cmd, err, out, text)
	}
}

// byScript runs the script, and returns what is then listed.
func byScript(t *testing.T, h *lab.Host, variant string, f Family, r *Ruleset) string {
	t.Helper()
	text := strings.ReplaceAll(r.Script(f, firewall.Commented), "\n"+f.Program()+" ", "\n"+program(variant, f, "")+" ")
	cmd := h.Command(t.Context(), "sh", "-s")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("the script: %v\n%s\nof\n%s", err, out, text)
	}
	return listed(t, h, program(variant, f, "save"))
}

// listed is what a host's rules are, in the form of normal.
func listed(t *testing.T, h *lab.Host, program string) string {
	t.Helper()
	out, err := h.Command(t.Context(), program).Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return normal(string(out))
}

// normal is a listing without what does not matter: comments, counters, the order
// of tables and that in which chains are declared.
func normal(text string) string {
	var tables []string
	for _, table := range strings.Split(text, "COMMIT\n") {
		var chains, rules []string
		name := ""
		for line := range strings.Lines(table) {
			switch line[0] {
			case '*':
				name = line
			case ':':
				chains = append(chains, line[:strings.LastIndex(line, " ")]+"\n")
			case '-':
				rules = append(rules, line)
			}
		}
		if name == "" {
			continue
		}
		slices.Sort(chains)
		// Rules of one chain keep their order.
		slices.SortStableFunc(rules, func(a, b string) int {
			return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1])
		})
		tables = append(tables, name+strings.Join(chains, "")+strings.Join(rules, ""))
	}
	slices.Sort(tables)
	return strings.Join(tables, "")
}
