package migrate

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"postern/internal/automaton"
	"postern/internal/policy"
)

var update = flag.Bool("update", false, "write what the tests got into testdata")

// TestSamples imports configurations of many shapes. The golden of each is the
// policy that comes out and the list of what is not in it.
func TestSamples(t *testing.T) {
	for kind, least := range map[string]int{"knockd-*.conf": 12, "*.rules": 12, "*.sh": 2} {
		files, err := filepath.Glob(filepath.Join("testdata", kind))
		if err != nil || len(files) < least {
			t.Fatalf("%d samples %s, want at least %d: %v", len(files), kind, least, err)
		}
		for _, file := range files {
			t.Run(filepath.Base(file), func(t *testing.T) { sample(t, file) })
		}
	}
}

func sample(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	result, err := Read(filepath.Base(file), text)
	archive := &txtar.Archive{}
	var left []Remark
	var empty *EmptyError
	switch {
	case err == nil:
		good(t, result.Policy)
		archive.Files = append(archive.Files, txtar.File{Name: "policy.yaml", Data: []byte(result.Policy)})
		left = result.Remarks
	case errors.As(err, &empty):
		archive.Files = append(archive.Files, txtar.File{Name: "error", Data: []byte(err.Error() + "\n")})
		left = empty.Remarks
	default:
		t.Fatal(err)
	}
	placed(t, text, left)
	if result != nil {
		standIns(t, result.Policy)
	}
	var list strings.Builder
	for _, l := range left {
		fmt.Fprintf(&list, "%d: %s\n    %s\n", l.Line, l.Text, l.Why)
	}
	archive.Files = append(archive.Files, txtar.File{Name: "left", Data: []byte(list.String())})
	got := string(txtar.Format(archive))

	golden := file + ".golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v: run the test with -update, and read what it wrote", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update writes it anew:\n%s", golden, diff)
	}
}

// good checks that a policy is one, for the machine too.
func good(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("this policy came out, and is not valid:\n%s\n%v", text, err)
	}
	if _, err := automaton.Compile(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// standIns checks that no address which only stands for the knocker's is in a policy.
func standIns(t *testing.T, text string) {
	t.Helper()
	for _, a := range knockers {
		if strings.Contains(text, a.String()) {
			t.Errorf("%s stands for the knocker, and is in the policy:\n%s", a, text)
		}
	}
}

// placed checks that a list is in the order of the file, shows its lines, says
// why, and can be put on a terminal.
func placed(t *testing.T, text []byte, left []Remark) {
	t.Helper()
	lines := strings.Split(string(text), "\n")
	for i, l := range left {
		if l.Line < 1 || l.Line > len(lines) {
			t.Fatalf("line %d of %d: %+v", l.Line, len(lines), l)
		}
		if i > 0 && l.Line < left[i-1].Line {
			t.Errorf("line %d comes after %d", l.Line, left[i-1].Line)
		}
		if l.Why == "" || strings.ContainsFunc(l.Text+l.Why, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }) {
			t.Errorf("line %d: %q: %q", l.Line, l.Text, l.Why)
		}
	}
}

// TestHowto: the recipe's forms all mean exactly what examples/howto.yaml means,
// and nothing of them is left.
func TestHowto(t *testing.T) {
	text, err := os.ReadFile("../../examples/howto.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := good(t, string(text))
	for file, kind := range map[string]Kind{"howto.rules": Rules, "howto-commented.rules": Rules, "howto.sh": Script} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		result, err := Read(file, text)
		if err != nil {
			t.Fatal(err)
		}
		if result.Kind != kind {
			t.Errorf("%s is taken for %s", file, result.Kind)
		}
		if len(result.Remarks) > 0 {
			t.Errorf("%s: left out: %v", file, result.Remarks)
		}
		same(t, want, good(t, result.Policy))
	}
}

// same compares policies, but for where things stand in their files.
func same(t *testing.T, want, got *policy.Policy) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(policy.Policy{}), cmpopts.EquateEmpty(),
		cmpopts.IgnoreTypes(policy.Position{}, []policy.Position{}),
		cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("the policy differs (-want +got):\n%s", diff)
	}
}

// TestWordsOfYAML: an interface may have a name that YAML has another use for.
func TestWordsOfYAML(t *testing.T) {
	for _, name := range []string{"null", "Null", "true", "FALSE", "yes", "no", "on", "off", "y", "n", "~", "1e3", "0x1f", "-", "a#b", "wg0"} {
		result, err := Read("rules", fmt.Appendf(nil, "*filter\n:INPUT DROP [0:0]\n-A INPUT -i %s -p tcp --dport 80 -j ACCEPT\n"+
			"-A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 9 --name IN -j ACCEPT\n"+
			"-A INPUT -p tcp --dport 7000 -m recent --set --name IN -j DROP\nCOMMIT\n", name))
		if err != nil {
			t.Fatal(err)
		}
		if got := good(t, result.Policy).Allow; len(got) != 1 || got[0].Interface != name {
			t.Errorf("the interface %q came out as %v:\n%s", name, got, result.Policy)
		}
	}
}

// TestUnknown: what is none of the kinds is refused, with its name and a reason.
func TestUnknown(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "empty"},
		{"blank", " \n\t\n", "empty"},
		{"binary", "\x7fELF\x00\x00", "not text"},
		{"large", strings.Repeat("#\n", 1<<20), "larger than 1 MiB"},
		{"policy", "version: 1\nposture: closed\n", "not a format import understands; it looks like a policy of postern"},
		{"nft", "table inet filter {\n}\n", "not a format import understands; it looks like an nft rule set"},
		{"ini", "[section]\nkey = value\n", "not a format import understands"},
		{"loop", "*filter\n-A INPUT -j A\n-A A -j B\n-A B -j A\nCOMMIT\n", "too tangled"},
	} {
		_, err := Read(c.name, []byte(c.text))
		var unknown *UnknownError
		if !errors.As(err, &unknown) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: %v", c.name, err)
		}
		if none := slices.Contains([]string{"empty", "blank", "binary", "ini"}, c.name); unknown != nil && (unknown.Remedy == "") != none {
			t.Errorf("%s: the remedy is %q", c.name, unknown.Remedy)
		}
	}
	for _, text := range []string{"*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n", "*filter\nCOMMIT\n", "iptables -L\n"} {
		_, err := Read("rules", []byte(text))
		var empty *EmptyError
		if !errors.As(err, &empty) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
