//go:build linux && !(386 || arm || mips || mipsle)

package backends_test

import (
	"fmt"
	"strings"
	"testing"

	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
)

// TestRulesGrowWithDoors: twice as many doors are about twice as many rules, whatever
// the doors have in common. If each door had rules about each other one, a few hundred
// of them would be more than iptables-restore can load.
func TestRulesGrowWithDoors(t *testing.T) {
	const few = 100
	for _, like := range []struct {
		name string
		door string // with the number of the door, once or more
		more string // lines before the doors
	}{
		{"services of their own", "{service: tcp/%[1]d, knock: {sequence: [2%[1]d, 3%[1]d]}}", ""},
		{"one service", "{service: tcp/22, knock: {sequence: [2%[1]d, 3%[1]d]}}", ""},
		{"one service, for one connection", "{service: tcp/22, admit: one, knock: {sequence: [2%[1]d, 3%[1]d]}}", ""},
		{"one beginning", "{service: tcp/%[1]d, knock: {sequence: [7000, 8000, 3%[1]d]}}", ""},
		{"forfeit", "{service: tcp/%[1]d, forfeit: true, knock: {sequence: [2%[1]d, 3%[1]d]}}", ""},
		{"networks", "{service: tcp/%[1]d, from: [\"2001:db8:%[1]d::/48\", 192.0.2.0/24], knock: {sequence: [2%[1]d, 3%[1]d]}}", ""},
		{"another host", "{service: tcp/%[1]d, forward: \"192.0.2.7:22\", knock: {sequence: [2%[1]d, 3%[1]d]}}", ""},
		{"marked", "{service: tcp/22, knock: {sequence: [2%[1]d, 3%[1]d]}}", "admitted: {mark: 0x100}\n"},
	} {
		t.Run(like.name, func(t *testing.T) {
			lines := func(f firewall.Format, b firewall.Backend, doors int) int {
				var text strings.Builder
				text.WriteString("version: 1\nposture: guard\n" + like.more + "doors:\n")
				for i := range doors {
					fmt.Fprintf(&text, "  d%[1]d: "+like.door+"\n", 1000+i)
				}
				p, err := policy.Parse("policy.yaml", []byte(text.String()))
				if err != nil {
					t.Fatal(err)
				}
				m, err := b.Machine(p)
				if err != nil {
					t.Fatal(err)
				}
				return strings.Count(f.Render(m, firewall.Plain), "\n")
			}
			for _, b := range backends.All() {
				for _, f := range b.(firewall.Renderer).Formats() {
					half, all := lines(f, b, few), lines(f, b, 2*few)
					if all > 5*half/2 {
						t.Errorf("%s: %d doors are %d lines, %d are %d", f.Name, few, half, 2*few, all)
					}
				}
			}
		})
	}
}
