package iptables

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/internal/firewall"
	"postern/internal/lab/labtest"
)

// TestNames: no two chains of a table, and no lists of the two families, have one
// name. The kernel would make one of them, and so let in by one door who has knocked
// at another.
func TestNames(t *testing.T) {
	doors := func(names ...string) string {
		text := "version: 1\nposture: closed\ndoors:\n"
		for i, name := range names {
			text += fmt.Sprintf("  %s: {service: [tcp/%d, udp/%d], knock: {sequence: [%d, %d, %d]}}\n",
				name, 1000+i, 1000+i, 2000+i, 3000+i, 4000+i)
		}
		return text
	}
	for _, test := range []struct{ name, text string }{
		{"a door named like a family", doors("ssh", "ssh-v6", "v6")},
		{"a door named like a service", doors("ssh", "ssh-tcp1000", "ssh-udp1000")},
		{"long names whose hashes are alike", doors("workstation-01181", "workstation-02500")},
		{"the longest names", doors(strings.Repeat("a", 32), strings.Repeat("a", 31)+"b")},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Compile(labtest.Compile(t, Backend{}, test.text))
			lists := map[Family][]string{}
			shared := map[Family][]string{}
			for _, f := range families {
				for _, table := range r.tables[f] {
					seen := map[string]bool{}
					for _, c := range table.chains {
						if seen[c.name] || len(prefix+c.name) > 28 {
							t.Errorf("%s: chain %s is there twice, or too long", f.Program(), c.name)
						}
						seen[c.name] = true
					}
				}
				lists[f] = names(r.Save(f, firewall.Plain))
				for _, g := range r.shared(f, nil) {
					shared[f] = append(shared[f], names(g.text())...)
				}
			}
			for _, all := range []map[Family][]string{lists, shared} {
				if len(all[IPv4]) < 6 || len(all[IPv4]) != len(all[IPv6]) {
					t.Fatalf("not the lists of so many doors: %v", all)
				}
				for _, name := range all[IPv4] {
					if slices.Contains(all[IPv6], name) {
						t.Errorf("both families have a list %s", name)
					}
				}
			}
		})
	}
}

// names returns the different lists that a text names.
func names(text string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`--(?:hashlimit-)?name (\S+)`).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}
