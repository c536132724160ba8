package iptables

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// TestRefused: a rule that cannot be loaded, whichever table it is in, leaves all
// tables as they were.
func TestRefused(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		for name, bad := range map[string]struct {
			verdict, says string
		}{
			"by the kernel":  {"-j REJECT --reject-with icmp6-port-unreachable", "refused the rules"}, // which it knows in filter only
			"by the program": {"-m nosuch -j DROP", `no "nosuch" for ip6tables-` + b.Variant + "-restore"},
			"by its grammar": {"-s 2001:db8::1 --dport 1 -j DROP", "--dport"},
		} {
			for _, loaded := range []string{"", "testdata/guard.yaml"} {
				t.Run(name+" "+filepath.Base(loaded), func(t *testing.T) {
					t.Parallel()
					h := lab.NewT(t).Host("host")
					for f, text := range foreign["containers"] {
						restore(t, h, program(b.Variant, f, "restore"), text)
					}
					if loaded != "" {
						apply(t, h, b, loaded)
						// From its place before ours, which Apply takes from it.
						insert(t, h, program(b.Variant, IPv4, "restore"), "*filter\n-I INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n")
					}
					before := everything(t, h, b.Variant)
					r := Compile(machine(t, "testdata/everything.yaml"))
					last := r.tables[IPv6][1]
					last.chains[0].rules = append(last.chains[0].rules, rule{target: target{verdict: bad.verdict}})
					err := h.Do(func() error { return retry(func() error { _, err := b.replace(r); return err }) })
					if err == nil || !strings.Contains(err.Error(), bad.says) {
						t.Errorf("it is refused with %q, want %q", err, bad.says)
					}
					after := everything(t, h, b.Variant)
					if b.Variant == "legacy" { // where asking for a table makes it
						before, after = emptyTable.ReplaceAllString(before, ""), emptyTable.ReplaceAllString(after, "")
					}
					if d := cmp.Diff(orderless(before), orderless(after)); d != "" {
						t.Errorf("something has changed (-before +after):\n%s", d)
					}
				})
			}
		}
	})
}

// orderless is a listing of everything without the order in which nft lists chains:
// those that were made anew come last.
func orderless(text string) string {
	text, nft, _ := strings.Cut(text, "---- nft\n")
	return text + strings.Join(lines(nft), "\n")
}

// TestOtherPrograms: another program changes the same tables. Its change succeeds,
// and so does Apply, once the other program is done. If that takes too long, Apply
// returns a BusyError.
func TestOtherPrograms(t *testing.T) {
	m := machine(t, "testdata/everything.yaml")
	for _, test := range []struct {
		times int // that another program changes the tables first
		busy  bool
	}{{1, false}, {3, false}, {100, true}} {
		t.Run(fmt.Sprint(test.times), func(t *testing.T) {
			eachVariant(t, func(t *testing.T, b Backend) {
				h := lab.NewT(t).Host("host")
				apply(t, h, b, "testdata/guard.yaml")
				meddling := meddler(t, b.Variant, IPv4, 0, test.times)
				err := h.Do(func() error { return b.Apply(m) })
				var busy *firewall.BusyError
				if errors.As(err, &busy) != test.busy || err != nil && !test.busy {
					t.Errorf("got %v", err)
				}
				os.Setenv("PATH", meddling)
				if s := labtest.Inspect(t, h, b); !test.busy && (s.Altered || s.Digest != b.Digest(m)) {
					t.Errorf("it is inspected as %+v", s)
				}
			})
		})
	}
}

// TestPartly: when other programs leave a change half done, the error does not say
// that nothing has changed.
func TestPartly(t *testing.T) {
	for name, test := range map[string]struct {
		do           func(b Backend) error
		good4, good6 int // how many tables each program loads before it fails
		says         string
	}{
		"up":   {func(b Backend) error { return b.Apply(machine(t, "testdata/everything.yaml")) }, 1, 0, leftMixed},
		"down": {Backend.Remove, 1, 1, leftRules},
	} {
		t.Run(name, func(t *testing.T) {
			eachVariant(t, func(t *testing.T, b Backend) {
				h := lab.NewT(t).Host("host")
				apply(t, h, b, "testdata/guard.yaml")
				before := meddler(t, b.Variant, IPv4, test.good4, 100)
				meddler(t, b.Variant, IPv6, test.good6, 100)
				err := h.Do(func() error { return test.do(b) })
				var busy *firewall.BusyError
				if err == nil || errors.As(err, &busy) || !strings.HasPrefix(err.Error(), test.says+": other programs keep changing the same tables") {
					t.Errorf("got %v", err)
				}
				os.Setenv("PATH", before)
				if s := labtest.Inspect(t, h, b); !s.Loaded || !s.Altered {
					t.Errorf("it is inspected as %+v", s)
				}
			})
		})
	}
}

// meddler puts a program in the place of a family's iptables-restore that works a few
// times and then fails so many times, because another program has just made a chain.
// It returns the PATH from before.
func meddler(t *testing.T, variant string, f Family, good, bad int) string {
	t.Helper()
	before := os.Getenv("PATH")
	dir := t.TempDir()
	name := program(variant, f, "restore")
	real, err := find(name)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in *--test* | *--version*) exec %[1]s "$@" ;; esac
echo x >>%[2]s/times
n=$(wc -l <%[2]s/times)
if [ $n -gt %[3]d ] && [ $n -le %[4]d ]; then
	%[5]s -N OTHERS-$n
	echo "line 1: somebody was faster" >&2
	exit 4
fi
exec %[1]s "$@"
`, real, dir, good, good+bad, strings.TrimSuffix(real, "-restore"))
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+before+":/usr/sbin:/sbin")
	return before
}

// TestExplain: what programs say becomes an error that says what to do. These are the
// words of iptables 1.8.9, and of older versions where they differ.
func TestExplain(t *testing.T) {
	for _, test := range []struct {
		program, stderr, kind, want string
	}{
		{"iptables-restore without nft_compat", "Warning: Extension tcp revision 0 not supported, missing kernel module?\n",
			"unsupported", "this host has no \"tcp\" for iptables-restore; load it with `modprobe -a nft_compat xt_tcpudp`, or use the nftables backend"},
		{"iptables-restore", "Fatal: can't open lock file /run/xtables.lock: Permission denied\n", "permission", ""},
		{"iptables-save", "Failed to list table names in /proc/net/ip_tables_names: Permission denied\n", "permission", ""},
		{"iptables-nft-save", "iptables-nft-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n", "permission", ""},
		{"iptables-save", "iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Invalid argument\n",
			"unsupported", "this host has no nf_tables, which iptables-save needs; load it with `modprobe nf_tables`, or use the nftables backend"},
		{"iptables-restore", "Another app is currently holding the xtables lock; still 1s 0us time ahead to have a chance to grab the lock...\n", "busy", ""},
		{"ip6tables-restore", "ip6tables-restore v1.8.9 (legacy): ip6tables-restore: unable to initialize table 'nat'\n\nError occurred at line: 1\n",
			"unsupported", "this host has no table nat for ip6tables-restore; load it with `modprobe ip6table_nat`, or use the nftables backend"},
		{"iptables-save", "iptables-save v1.8.7 (legacy): can't initialize iptables table `filter': Table does not exist (do you need to insmod?)\n",
			"unsupported", "this host has no table filter for iptables-save; load it with `modprobe iptable_filter`, or use the nftables backend"},
		{"iptables-restore", "Warning: Extension recent revision 0 not supported, missing kernel module?\niptables-restore: line 9 failed\n",
			"unsupported", "this host has no \"recent\" for iptables-restore; load it with `modprobe xt_recent`, or use the nftables backend"},
		{"ip6tables-restore", "Warning: Extension REJECT is not supported, missing kernel module?\n",
			"unsupported", "this host has no \"REJECT\" for ip6tables-restore; load it with `modprobe ip6t_REJECT`, or use the nftables backend"},
		{"iptables-restore", "iptables-restore v1.8.9 (legacy): Couldn't load match `hashlimit':No such file or directory\n\nError occurred at line: 2\n",
			"unsupported", "this host has no \"hashlimit\" for iptables-restore; load it with `modprobe xt_hashlimit`, or use the nftables backend"},
		{"iptables-nft-restore", "iptables-nft-restore v1.8.9 (nf_tables): \nline 2: RULE_APPEND failed (Invalid argument): rule in chain PREROUTING\n",
			"", "iptables-nft-restore refused the rules: line 2: RULE_APPEND failed (Invalid argument): rule in chain PREROUTING: second line, key ... and --dport ... -j DROP"},
		{"iptables-restore", "iptables-restore v1.8.9 (legacy): host/network `foo.bar.' not found\nError occurred at line: 2\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
			"", "iptables-restore refused the rules: host/network `foo.bar.' not found: second line, key ... and --dport ... -j DROP"},
		{"iptables-restore", "iptables-restore: line 3 failed\n", "", "iptables-restore refused the rules: iptables-restore: line 3 failed"},
	} {
		name, _, compat := strings.Cut(test.program, " without nft_compat")
		err := explain(&failure{program: name, compat: compat, input: "*filter\nsecond line, key 0123ab and --dport 47011 -j DROP\nCOMMIT\n", stderr: test.stderr, err: errors.New("exit status 1")})
		kind, text := "", ""
		var (
			permission  *firewall.PermissionError
			unsupported *firewall.UnsupportedError
			busy        *firewall.BusyError
		)
		switch {
		case errors.As(err, &permission):
			kind = "permission"
		case errors.As(err, &busy):
			kind = "busy"
		case errors.As(err, &unsupported):
			kind, text = "unsupported", unsupported.Error()+"; "+unsupported.Hint
		default:
			text = err.Error()
		}
		if kind != test.kind || text != test.want {
			t.Errorf("%q becomes\n%s %q, want\n%s %q", test.stderr, kind, text, test.kind, test.want)
		}
	}
	var unsupported *firewall.UnsupportedError
	if _, err := (Backend{Variant: "nosuch"}).Inspect(); !errors.As(err, &unsupported) || !strings.Contains(unsupported.What, "iptables-nosuch-save") {
		t.Errorf("without the program: %v", err)
	}
}

// TestHidden: a table with rules that only nft can list is not touched.
func TestHidden(t *testing.T) {
	t.Parallel()
	b := Backend{Variant: "nft"}
	h := lab.NewT(t).Host("host")
	load := func(text string) {
		t.Helper()
		cmd := h.Command(t.Context(), "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v\n%s", err, out)
		}
	}
	const foreign = "table ip6 filter { chain INPUT { type filter hook input priority 0; }; }; add rule ip6 filter INPUT ct state new accept\n"
	load(foreign)
	before := everything(t, h, b.Variant)
	m := machine(t, howto)
	var unsupported *firewall.UnsupportedError
	if err := h.Do(func() error { return b.Apply(m) }); !errors.As(err, &unsupported) || !strings.Contains(unsupported.Hint, "`nft list table ip6 filter`") {
		t.Errorf("up: %v", err)
	}
	if s := labtest.Inspect(t, h, b); s.Loaded {
		t.Errorf("inspected: %+v", s)
	}
	remove(t, h, b)
	if d := cmp.Diff(before, everything(t, h, b.Variant)); d != "" {
		t.Errorf("something has changed (-before +after):\n%s", d)
	}
	// Another program may put them there later, too.
	load("flush ruleset\n")
	apply(t, h, b, howto)
	load(foreign)
	for what, do := range map[string]func() error{"up": func() error { return b.Apply(m) }, "down": b.Remove} {
		if err := h.Do(do); !errors.As(err, &unsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A backend that does not work here has nothing loaded; this one has.
	err := h.Do(func() error { _, err := b.Inspect(); return err })
	var unreadable *firewall.UnreadableError
	if !errors.As(err, &unreadable) || errors.As(err, &unsupported) || !strings.Contains(err.Error(), "`nft list table ip6 filter`") {
		t.Errorf("status: %v", err)
	}
}

// TestBroken: programs that do not work are no reason to think that rules are loaded,
// or that none are.
func TestBroken(t *testing.T) {
	b := Backend{Variant: "legacy"}
	dir, before := t.TempDir(), os.Getenv("PATH")
	script := "#!/bin/sh\necho broken >&2\nexit 127\n"
	if err := os.WriteFile(filepath.Join(dir, program(b.Variant, IPv6, "save")), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h := lab.NewT(t).Host("host")
	for _, loaded := range []bool{false, true} {
		if loaded {
			apply(t, h, b, "testdata/guard.yaml")
		}
		t.Setenv("PATH", dir+":"+before+":/usr/sbin:/sbin")
		err := h.Do(func() error { _, err := b.Inspect(); return err })
		var unreadable *firewall.UnreadableError
		if errors.As(err, &unreadable) != loaded || err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("loaded %v: got %v", loaded, err)
		}
		os.Setenv("PATH", before)
	}
}

// TestVersion: the programs say which they are.
func TestVersion(t *testing.T) {
	eachVariant(t, func(t *testing.T, b Backend) {
		v, err := b.Version()
		if err != nil || v.Variant != b.Variant || !strings.HasPrefix(v.Number, "1.") {
			t.Errorf("got %v (%v)", v, err)
		}
	})
}

// TestRace: of two that apply at once, each succeeds or says that it has not, and what
// is loaded in the end is one rule set.
func TestRace(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		h := lab.NewT(t).Host("host")
		for i := range 8 {
			errs := make(chan error)
			for _, file := range []string{"testdata/everything.yaml", "testdata/guard.yaml"} {
				m := machine(t, file)
				go func() { errs <- h.Do(func() error { return b.Apply(m) }) }()
			}
			done := 0
			for range 2 {
				var busy *firewall.BusyError
				var part *partError
				if err := <-errs; err == nil {
					done++
				} else if !errors.As(err, &busy) && !errors.As(err, &part) {
					t.Errorf("round %d: %v", i, err)
				}
			}
			if s := labtest.Inspect(t, h, b); s.Altered || !s.Loaded || done == 0 {
				t.Errorf("round %d: %d of 2 succeeded, and left %+v", i, done, s)
			}
		}
	})
}
