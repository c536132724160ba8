package iptables

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEdit: what is loaded into a table, by what it holds already.
func TestEdit(t *testing.T) {
	want := content{
		chains: []ownChain{
			{"POSTERN-INPUT", []string{"-A POSTERN-INPUT -i lo -j RETURN", "-A POSTERN-INPUT -p igmp -j RETURN"}},
			{"POSTERN-GATE1", []string{"-A POSTERN-GATE1 -j DROP"}},
		},
		entries: []entry{{at: 1, rule: "INPUT -j POSTERN-INPUT"}},
	}
	const fresh = `*filter
:POSTERN-INPUT - [0:0]
:POSTERN-GATE1 - [0:0]
[0:0] -A POSTERN-INPUT -i lo -j RETURN
[0:0] -A POSTERN-INPUT -p 2 -j RETURN
[0:0] -A POSTERN-GATE1 -j DROP
`
	const chains = "*filter\n:INPUT ACCEPT [1:2]\n"
	for _, test := range []struct {
		name, holds string
		want        content
		edit        string
	}{
		{"no table", "", want, fresh + "-I INPUT 1 -j POSTERN-INPUT\nCOMMIT\n"},
		{"no table, nothing wanted", "", content{}, ""},
		{"rules of others, nothing wanted", chains + "[3:4] -A INPUT -m comment --comment \"see \\\"-j POSTERN-INPUT\\\" below\" -j ACCEPT\nCOMMIT\n", content{}, ""},
		{"rules of others", chains + "[3:4] -A INPUT -j ACCEPT\nCOMMIT\n", want, fresh + "-I INPUT 1 -j POSTERN-INPUT\nCOMMIT\n"},
		{
			"our own, behind a rule of others",
			chains + ":POSTERN-INPUT - [0:0]\n:POSTERN-GATE1 - [0:0]\n" +
				"[3:4] -A INPUT -j ACCEPT\n[0:0] -A INPUT -j POSTERN-INPUT\n[5:6] -A POSTERN-INPUT -i lo -j RETURN\n" +
				"[7:8] -A POSTERN-INPUT -p tcp -j DROP\n[9:10] -A POSTERN-GATE1 -j DROP\nCOMMIT\n",
			want,
			`*filter
:POSTERN-INPUT - [0:0]
[5:6] -A POSTERN-INPUT -i lo -j RETURN
[0:0] -A POSTERN-INPUT -p 2 -j RETURN
-D INPUT -j POSTERN-INPUT
-I INPUT 1 -j POSTERN-INPUT
COMMIT
`,
		},
		{
			"just what is wanted, behind a rule that only logs",
			chains + ":POSTERN-INPUT - [0:0]\n:POSTERN-GATE1 - [0:0]\n" +
				"[3:4] -A INPUT -j LOG\n[0:0] -A INPUT -j POSTERN-INPUT\n[5:6] -A POSTERN-INPUT -i lo -j RETURN\n" +
				"[0:0] -A POSTERN-INPUT -p 2 -j RETURN\n[9:10] -A POSTERN-GATE1 -j DROP\nCOMMIT\n",
			want,
			"",
		},
		{
			"a door's rule in another chain",
			chains + ":POSTERN-GATE2 - [0:0]\n[5:6] -A POSTERN-GATE2 -m comment --comment \"postern: opens ssh\" -j DROP\nCOMMIT\n",
			content{chains: []ownChain{{"POSTERN-GATE2-ssh", []string{"-A POSTERN-GATE2-ssh -m comment --comment \"postern: opens ssh\" -j DROP"}}}},
			`*filter
:POSTERN-GATE2-ssh - [0:0]
[5:6] -A POSTERN-GATE2-ssh -m comment --comment "postern: opens ssh" -j DROP
-F POSTERN-GATE2
-X POSTERN-GATE2
COMMIT
`,
		},
		{
			"older rules of ours",
			chains + ":POSTERN-INPUT - [0:0]\n:POSTERN-GATE2 - [0:0]\n:POSTERN-GATE3 - [0:0]\n" +
				"[0:0] -A INPUT -j POSTERN-INPUT\n[0:0] -A INPUT -j POSTERN-INPUT\n[0:0] -A INPUT -i eth0 -g POSTERN-GATE2\n" +
				"[0:0] -A POSTERN-GATE2 -j POSTERN-GATE3\nCOMMIT\n",
			want,
			fresh + `-D INPUT -j POSTERN-INPUT
-D INPUT -j POSTERN-INPUT
-D INPUT -i eth0 -g POSTERN-GATE2
-I INPUT 1 -j POSTERN-INPUT
-F POSTERN-GATE2
-F POSTERN-GATE3
-X POSTERN-GATE2
-X POSTERN-GATE3
COMMIT
`,
		},
		{
			"all that is ours goes",
			chains + ":POSTERN-INPUT - [0:0]\n[0:0] -A INPUT -j POSTERN-INPUT\n[0:0] -A POSTERN-INPUT -j DROP\nCOMMIT\n",
			content{},
			"*filter\n-D INPUT -j POSTERN-INPUT\n-F POSTERN-INPUT\n-X POSTERN-INPUT\nCOMMIT\n",
		},
		{
			"an entry gets back its place",
			chains + "[3:4] -A INPUT -j ACCEPT\nCOMMIT\n",
			content{chains: []ownChain{{"POSTERN-INPUT", nil}}, entries: []entry{{at: 2, rule: "INPUT -j POSTERN-INPUT"}}},
			"*filter\n:POSTERN-INPUT - [0:0]\n-I INPUT 2 -j POSTERN-INPUT\nCOMMIT\n",
		},
	} {
		tables, err := parseLoaded(test.holds)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if d := cmp.Diff(test.edit, tables["filter"].edit("filter", test.want)); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
	}
}

func TestArguments(t *testing.T) {
	for rule, want := range map[string][]string{
		``:                                      nil,
		`-A INPUT  -j ACCEPT`:                   {"-A", "INPUT", "-j", "ACCEPT"},
		`-m comment --comment "a \"b\" c" -j X`: {"-m", "comment", "--comment", `a "b" c`, "-j", "X"},
		`--log-prefix "" -j X`:                  {"--log-prefix", "", "-j", "X"},
		`--comment "C:\\" -j X`:                 {"--comment", `C:\`, "-j", "X"},
		`--comment C:\ -j X`:                    {"--comment", `C:\`, "-j", "X"},
	} {
		if got := arguments(rule); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", rule, got, want)
		}
	}
}

// TestNote: what a table says of itself is read back from the rule that it is on.
func TestNote(t *testing.T) {
	for _, want := range []label{
		{digest: "0123456789abcdef", shape: "01234567"},
		{digest: "0123456789abcdef", shape: "01234567", key: newListKey()},
		{digest: "0123456789abcdef", shape: "01234567", key: newListKey(), created: []string{"table", "PREROUTING", "POSTROUTING"}},
	} {
		for _, rule := range []string{"-A POSTERN-INPUT -i lo -j RETURN", "-A POSTERN-INPUT -i eth0 -g POSTERN-ARRIVED", "-A POSTERN-INPUT -i lo"} {
			c := content{chains: []ownChain{{"POSTERN-EMPTY", nil}, {"POSTERN-INPUT", []string{rule, "-A POSTERN-INPUT -j DROP"}}}}
			noted := c.with(want)
			got, found := noted.label()
			if !found || got.String() != want.String() {
				t.Errorf("%+v on %q is read as %+v", want, noted.chains[1].rules[0], got)
			}
			if _, found := c.label(); found {
				t.Errorf("%q: the rule itself has changed", rule)
			}
		}
	}
}

// TestLines: what others write into comments does not end a rule, and a listing that
// breaks off is not taken for a whole one.
func TestLines(t *testing.T) {
	const listing = "# it's \"quoted\n*filter\n:INPUT ACCEPT [0:0]\n" +
		"[0:0] -A INPUT -m comment --comment \"a\nCOMMIT\n\\\"[1:2] -A INPUT\n\\\\\" -j DROP\n" +
		"[3:4] -A INPUT -j ACCEPT\nCOMMIT\n"
	tables, err := parseLoaded(listing)
	if err != nil {
		t.Fatal(err)
	}
	rules := tables["filter"].chain("INPUT").rules
	if len(rules) != 2 || option(rules[0].text, "--comment") != "a\nCOMMIT\n\"[1:2] -A INPUT\n\\" || rules[0].leadsTo() != "DROP" || rules[1].packets != 3 {
		t.Errorf("got %+v", rules)
	}
	for _, broken := range []string{listing[:len(listing)-len("COMMIT\n")], "*filter\n:INPUT ACCEPT [0:0]\n[0:0] -A INPUT --comment \"a -j DROP\nCOMMIT\n"} {
		if _, err := parseLoaded(broken); err == nil || !strings.Contains(err.Error(), "COMMIT") {
			t.Errorf("%q: got %v", broken, err)
		}
	}
}

func FuzzParseLoaded(f *testing.F) {
	f.Add("*filter\n:INPUT ACCEPT [1:2]\n:POSTERN-INPUT - [0:0]\n[0:0] -A INPUT -j POSTERN-INPUT\n[0:0] -A POSTERN-INPUT -p igmp -j \"\\\"DROP\"\nCOMMIT\n# Completed\n")
	f.Add("# Table `nat' is incompatible, use 'nft' tool.\n*raw\nCOMMIT\n")
	f.Add("*filter\n:INPUT ACCEPT [0:0]\n[0:0] -A INPUT --comment \"a\n\\\"\n\" -j ACCEPT\nCOMMIT\n")
	f.Add("*filter\n[0:0] -A INPUT -j ACCEPT\nCOMMIT\n")
	f.Fuzz(func(t *testing.T, text string) {
		tables, err := parseLoaded(text)
		if err != nil {
			return
		}
		for name, table := range tables {
			// What is ours goes, and nothing of others is named but rules that lead to us.
			ours := table.content()
			edit := table.edit(name, content{})
			if ours.empty() != (edit == "") {
				t.Errorf("%q is edited by %q", text, edit)
			}
			for line := range strings.Lines(edit) {
				if !strings.Contains(line, "POSTERN-") && line != "*"+name+"\n" && line != "COMMIT\n" {
					t.Errorf("%q is edited by %q", text, line)
				}
			}
		}
	})
}
