//go:build linux

package stealth

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/internal/firewall/backends"
	"postern/internal/packet"
	"postern/internal/paragraph"
	"postern/internal/policy"
)

var update = flag.Bool("update", false, "write what is measured into docs/cover.md")

// The page, and what it has around what is measured.
const (
	page  = "../../docs/cover.md"
	begin = "<!-- measured: go test ./internal/stealth -run StealthAnswers -update -->\n"
	end   = "<!-- end of measured -->\n"
)

// TestStealthAnswers compares the answers of a hidden port with those of the same
// port of a host without rules, on which nothing listens, field by field. All
// differences must be in docs/cover.md, and the page may have no others.
func TestStealthAnswers(t *testing.T) {
	var got strings.Builder
	for _, c := range covers {
		if c.backend != backends.Default() {
			continue // docs/cover.md is about the other one
		}
		if !c.answer.Answers() {
			continue
		}
		n := newNetwork(t, c, site{forwards: true, rpFilter: 1, several: true})
		n.addBare()
		ours, bare := n.examiner(t, n.fromScanner, n.fromFriend), n.examiner(t, n.toBare, n.besideBare)
		for _, protocol := range []packet.Protocol{packet.ProtocolTCP, packet.ProtocolUDP} {
			recipes, port := tcpRecipes, uint16(22)
			if protocol == packet.ProtocolUDP {
				recipes, port = udpRecipes, 5353
			}
			if p := policy.Protocol(protocol); c.answer.Answer(p) != policy.IdleAnswer(p) {
				continue // no kernel answers so by itself
			}
			for i, w := range ways(n.fromScanner) {
				var found findings
				theirs, all := bare.examine(t, ways(n.toBare)[i], recipes, protocol, port), ours.examine(t, w, recipes, protocol, port)
				for _, r := range recipes {
					if r.fits(w, n.site) {
						found.add(r.name, theirs[r.name], all[r.name])
					}
				}
				fmt.Fprintf(&got, "\n### %s, cover %s, %s over %s (%d probes)\n\n%s",
					c.posture, c.answer, strings.ToUpper(protocol.String()), w.family(), found.probes, found.list())
			}
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	measured, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for what is measured", page)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+got.String()+"\n"+end+after), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := got.String() + "\n"; got != measured {
		t.Errorf("%s is not what is measured here; see `git diff` after -update. Measured:\n%s", page, got)
	}
}

// findings are the differences found, with the probes that show them.
type findings struct {
	probes int
	tcp    int                 // how many both hosts answer with TCP
	order  []packet.Difference // as first seen
	by     map[packet.Difference][]string
}

// add compares the answers to one probe, those of the host without rules first.
func (f *findings) add(name string, bare, ours []shape) {
	f.probes++
	if f.by == nil {
		f.by = map[packet.Difference][]string{}
	}
	var all []packet.Difference
	if answers(bare) != answers(ours) {
		all = []packet.Difference{{Field: "the answer", A: answers(bare), B: answers(ours)}}
	} else if len(bare) > 0 {
		if bare[0].packet.TCP != nil {
			f.tcp++
		}
		for i := range bare {
			all = append(all, differences(bare[i], ours[i])...)
		}
	}
	for _, d := range all {
		if f.by[d] == nil {
			f.order = append(f.order, d)
		}
		f.by[d] = append(f.by[d], name)
	}
}

// answers says of what kind they are.
func answers(all []shape) string {
	var kinds []string
	for _, s := range all {
		switch p := s.packet; {
		case p.TCP != nil:
			kinds = append(kinds, "TCP "+p.TCP.Flags.String())
		case p.ICMP != nil:
			kinds = append(kinds, fmt.Sprintf("%s %d/%d", p.Protocol, p.ICMP.Type, p.ICMP.Code))
		default:
			kinds = append(kinds, p.Protocol.String())
		}
	}
	if kinds == nil {
		return "none"
	}
	return strings.Join(kinds, ", ")
}

// list writes the findings for a page of 80 columns.
func (f *findings) list() string {
	if len(f.order) == 0 {
		return "No difference.\n"
	}
	var b strings.Builder
	for _, d := range f.order {
		names := strings.Join(slices.Compact(f.by[d]), "; ")
		if len(f.by[d]) == f.tcp {
			names = "all that are answered with TCP"
		}
		text := fmt.Sprintf("%s: %s without rules, %s with Postern. Probes: %s", d.Field, value(d.Field, d.A), value(d.Field, d.B), names)
		fmt.Fprintf(&b, "- %s\n", strings.Join(paragraph.Wrap(text, 78), "\n  "))
	}
	return b.String()
}

// value writes a value for people.
func value(field, value string) string {
	switch {
	case value == "":
		return "none"
	case field == "V6.FlowLabel" || field == "V4.ID":
		return map[string]string{"0": "0", "1": "not 0"}[value]
	}
	return value
}
