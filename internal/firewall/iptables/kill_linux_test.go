package iptables

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

var kills = flag.Int("kills", 30, "how often TestKill kills a process")

// applying is the variable by which this binary, run once more, applies policies
// until it is killed: it holds the variant and the policies' files.
const applying = "POSTERN_TEST_APPLYING"

// TestApplyUntilKilled is the other half of TestKill; on its own it does nothing.
func TestApplyUntilKilled(t *testing.T) {
	words := strings.Fields(os.Getenv(applying))
	if len(words) == 0 {
		return
	}
	b := Backend{Variant: words[0]}
	fmt.Println("ready")
	for {
		for _, file := range words[1:] {
			if err := b.Apply(machine(t, file)); err != nil {
				t.Fatal(err)
			}
			fmt.Println("applied")
		}
	}
}

// TestKill kills a process that replaces one rule set by another, again and again:
// the rules of others are as they were, each table has one rule set or the other,
// whole, and the next Apply repairs it. A kill also ends iptables-restore, which the
// process has started, as the fall of a machine would.
func TestKill(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		files := [2]string{"testdata/everything.yaml", "testdata/guard.yaml"}
		others := foreign["containers"]
		fresh := func(name string) *lab.Host {
			h := lab.NewT(t).Host(name)
			for f, text := range others {
				restore(t, h, program(b.Variant, f, "restore"), text)
			}
			return h
		}
		var window time.Duration // how long Apply takes
		// By place: what it may hold.
		whole := map[place]map[string]string{}
		for _, at := range places {
			whole[at] = map[string]string{"": "nothing"}
		}
		for _, file := range files {
			h := fresh("fresh")
			began := time.Now()
			apply(t, h, b, file)
			window = max(window, time.Since(began))
			for at, text := range ownTables(t, h, b) {
				whole[at][text] = file
			}
		}
		gw := fresh("gw")
		untouched := othersOf(everything(t, gw, b.Variant))
		seed := uint64(time.Now().UnixNano())
		random := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		left := map[string]int{}
		for i := range *kills {
			if i%4 == 0 { // what is killed may be the first of all
				remove(t, gw, b)
			}
			helper := gw.Command(t.Context(), os.Args[0], "-test.run=^TestApplyUntilKilled$", "-test.count=1")
			helper.Env = append(os.Environ(), applying+"="+b.Variant+" "+files[i%2]+" "+files[1-i%2])
			// However slow the machine is, half of the kills come after the first rule set.
			labtest.KillAfter(t, helper, time.Duration(random.Int64N(int64(window))), []string{"ready", "applied"}[:1+random.IntN(2)]...)

			sources := map[string]bool{}
			for at, text := range ownTables(t, gw, b) {
				if len(whole[at]) == 1 { // neither policy has rules there
					continue
				}
				file, ok := whole[at][text]
				if !ok {
					t.Fatalf("kill %d left a part of a rule set in %v:\n%s", i, at, text)
				}
				sources[file] = true
			}
			switch s := labtest.Inspect(t, gw, b); {
			case len(sources) > 1:
				left["a mixture"]++
				if !s.Altered {
					t.Errorf("kill %d left a mixture, which does not show: %v", i, sources)
				}
			default:
				for file := range sources {
					left[file]++
				}
				if s.Altered {
					t.Errorf("kill %d left one rule set, %v, which is said to be altered", i, sources)
				}
			}
			if d := cmp.Diff(untouched, othersOf(everything(t, gw, b.Variant))); d != "" {
				t.Fatalf("kill %d has changed rules of others (-before +after):\n%s", i, d)
			}
			if i%3 == 0 {
				apply(t, gw, b, files[i/3%2])
				if s := labtest.Inspect(t, gw, b); s.Altered || s.Digest != b.Digest(machine(t, files[i/3%2])) {
					t.Errorf("kill %d is not repaired: %+v", i, s)
				}
			}
		}
		t.Logf("what %d kills left: %v", *kills, left)
		if left["a mixture"] < max(1, *kills/30) {
			t.Errorf("only %d kills interrupted a change", left["a mixture"])
		}
	})
}

// ownTables lists what is ours by place, without what labels tell of the host, and the
// names of lists without their key.
func ownTables(t *testing.T, h *lab.Host, b Backend) map[place]string {
	t.Helper()
	all := map[place]string{}
	if err := h.Do(func() error {
		loaded, err := b.read()
		for _, at := range places {
			c := loaded[at].content()
			text := ""
			for _, e := range c.entries {
				text += e.rule + "\n"
			}
			var chains []string
			for _, one := range c.chains {
				chains = append(chains, one.name+"\n"+strings.Join(one.rules, "\n")+"\n")
			}
			slices.Sort(chains) // the variants have orders of their own
			text = labelledCreated.ReplaceAllString(text+strings.Join(chains, ""), "")
			all[at] = withoutKey(text, loaded.contents().key())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// withoutKey returns a listing as it would be without a key.
func withoutKey(text string, key *listKey) string {
	text = labelledKey.ReplaceAllString(text, "")
	return sealedName.ReplaceAllStringFunc(text, func(sealed string) string {
		kind, id, ok := key.open(sealed[1:])
		if !ok {
			return sealed
		}
		return "-" + (*listKey)(nil).seal(kind, id)
	})
}

var (
	labelledKey = regexp.MustCompile(labelKey + "[0-9a-f]{32}")
	sealedName  = regexp.MustCompile("-[0-9a-f]{32}")
)

// othersOf is a listing of everything without what is ours.
func othersOf(text string) string {
	var rest []string
	for line := range strings.Lines(text[:strings.Index(text+"---- nft", "---- nft")]) {
		if Ours(strings.TrimPrefix(line, ":")) || Ours(strings.TrimPrefix(line, "-A ")) ||
			strings.HasPrefix(line, "-A ") && Ours(option(strings.TrimSpace(line), "-j", "-g")) {
			continue
		}
		rest = append(rest, line)
	}
	return emptyTable.ReplaceAllString(strings.Join(rest, ""), "")
}
