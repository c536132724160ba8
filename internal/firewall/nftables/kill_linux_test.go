package nftables

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

var kills = flag.Int("kills", 40, "how often TestKill kills a process")

// applying is the variable by which this binary, run once more, applies policies
// until it is killed: it holds their names.
const applying = "POSTERN_TEST_APPLYING"

// TestApplyUntilKilled is the other half of TestKill; on its own it does nothing.
func TestApplyUntilKilled(t *testing.T) {
	names := os.Getenv(applying)
	if names == "" {
		return
	}
	first, second, _ := strings.Cut(names, " ")
	a, b := machine(t, first), machine(t, second)
	fmt.Println("ready")
	for {
		for _, m := range []func() error{
			func() error { return Backend{}.Apply(a) },
			func() error { return Backend{}.Apply(b) },
		} {
			if err := m(); err != nil {
				t.Fatal(err)
			}
			fmt.Println("applied")
		}
	}
}

// TestKill kills a process that replaces one rule set by another, again and
// again: what is left is always one of them, whole.
func TestKill(t *testing.T) {
	t.Parallel()
	names := [2]string{"everything", "howto"}
	whole := map[string]string{} // by digest: what nft lists
	window := 40 * time.Millisecond
	for _, name := range names {
		h := lab.NewT(t).Host("fresh")
		began := time.Now()
		if err := h.Do(func() error { return Backend{}.Apply(machine(t, name)) }); err != nil {
			t.Fatal(err)
		}
		window = max(window, 2*time.Since(began)) // machines differ, and are busy
		digest, listing := loaded(t, h)
		whole[digest] = listing
	}
	gw := lab.NewT(t).Host("gw")
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	left := map[string]int{}
	before := "" // the digest of what was loaded before
	for i := range *kills {
		if i%4 == 0 { // what is killed may be the first of all
			if err := gw.Do(Backend{}.Remove); err != nil {
				t.Fatal(err)
			}
			before = ""
		}
		helper := gw.Command(t.Context(), os.Args[0], "-test.run=^TestApplyUntilKilled$", "-test.count=1")
		helper.Env = append(os.Environ(), applying+"="+names[i%2]+" "+names[1-i%2])
		// However slow the machine is, half of the kills come after the first rule set.
		labtest.KillAfter(t, helper, time.Duration(random.Int64N(int64(window))), []string{"ready", "applied"}[:1+random.IntN(2)]...)

		digest, listing := loaded(t, gw)
		left[digest]++
		want, ok := whole[digest]
		switch {
		case digest == "" && before == "":
			if listing != "" {
				t.Fatalf("kill %d: no rule set says what it is, but nft lists\n%s", i, listing)
			}
		case !ok:
			t.Fatalf("kill %d left the rule set %q, which is neither\n%s", i, digest, listing)
		case listing != want:
			t.Fatalf("kill %d left a part of the rule set %s:\n%s", i, digest, listing)
		}
		before = digest
		knowsEarly(t, gw)
	}
	t.Logf("what %d kills left, by digest: %v", *kills, left)
	for digest := range whole {
		if left[digest] < max(1, *kills/20) {
			t.Errorf("only %d kills left the rule set %s: the kills do not hit the middle of Apply", left[digest], digest)
		}
	}
}

// knowsEarly fails the test if packets are dropped early on a host by another program than
// that of the loaded rules.
func knowsEarly(t *testing.T, h *lab.Host) {
	t.Helper()
	if err := h.Do(func() error {
		codes, err := verifier.RunningEarly()
		if err != nil || codes == (bpf.Codes{}) {
			return err
		}
		known := 0
		_, err = dump("counted", func(e element, _ lifetime) bool {
			if code := binary.NativeEndian.Uint32(e.key); code == codes.Counted() || code == codes.Over() {
				known++
			}
			return true
		})
		if known != 2 {
			t.Errorf("the rules know %d of the codes of what is dropped early", known)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// A part of a table, as nft lists it.
var parts = regexp.MustCompile(`(?ms)^\t\w.*?^\t\}`)

// loaded returns what our table says that it is, and what nft lists of it with its
// parts in one order: those that stay when rules are replaced come first.
func loaded(t *testing.T, h *lab.Host) (digest, listing string) {
	t.Helper()
	if err := h.Do(func() error {
		status, err := Backend{}.Inspect()
		if err == nil {
			digest = status.Digest
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	all := parts.FindAllString(list(t, h), -1)
	slices.Sort(all)
	return digest, strings.Join(all, "\n")
}
