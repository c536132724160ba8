package preflight

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/policy"
)

// ownSequences stand in Postern's pages and examples. A test holds them to these.
var ownSequences = []string{
	"47011 5120 31877", "47011 udp/5120 icmp/echo", // docs/policy.md, guard.yaml
	"1234 2345 3456",                            // howto.yaml
	"28114 60233 9407",                          // gateway.yaml
	"20914 udp/7061 41230", "52188 11377 36002", // home.yaml
	"38113 udp/5942 21677",                                           // vpn.yaml, docs/vpn.md
	"33117 8209 54002", "6113 44871 19200", "15020 61944 27733 8061", // two-families.yaml
	"7 9 8", // docs/policy.md
}

// othersSequences are what knockd's manual, most of its tutorials, and those of
// iptables and nftables show.
var othersSequences = []string{
	"7000 8000 9000", "9000 8000 7000", "udp/2222 3333 udp/4444",
	"1111 2222 3333", "8881 7777 9991", "123 234 345 456",
}

// knownSequence warns of a sequence that was copied from a page: everyone can read it
// there.
func knownSequence(p *policy.Policy) []Finding {
	var found []Finding
	for i := range p.Doors {
		knock := &p.Doors[i].Knock
		text := sequenceText(knock.Sequence)
		if slices.Contains(ownSequences, text) || slices.Contains(othersSequences, text) {
			found = append(found, aboutLine(SequenceKnown, p.Diagnose(knock.SequencePos[0],
				fmt.Sprintf("the sequence of door %s stands in an example that everyone can read", p.Doors[i].Name),
				"draw one of your own: \"postern init --dry-run\" prints one")))
		}
	}
	return found
}

// sequenceText writes knocks as in ownSequences.
func sequenceText(ports []policy.Port) string {
	var words []string
	for _, p := range ports {
		words = append(words, strings.TrimPrefix(p.String(), "tcp/"))
	}
	return strings.Join(words, " ")
}
