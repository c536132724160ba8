package conformance

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/firewall/iptables"
)

// A recipeMutant is the iptables backend with a fault in the rules that it loads.
type recipeMutant struct {
	iptables.Backend
	edit func(rules string) string
	keys bool // it is in rules of keys
}

func (b recipeMutant) Apply(m *automaton.Machine) error {
	if b.keys && !m.Policy.HasKeys() {
		return errNoFault
	}
	if err := b.Backend.Apply(m); err != nil {
		return err
	}
	faulty := false
	for _, program := range []string{"iptables-nft", "ip6tables-nft"} {
		rules, err := exec.Command(program + "-save").Output()
		if err != nil {
			return fmt.Errorf("%s-save: %w", program, err)
		}
		edited := b.edit(string(rules))
		if edited == string(rules) {
			continue
		}
		faulty = true
		load := exec.Command(program + "-restore")
		load.Stdin = strings.NewReader(edited)
		if out, err := load.CombinedOutput(); err != nil {
			return fmt.Errorf("%s-restore: %w\n%s", program, err, out)
		}
	}
	if !faulty {
		return errNoFault
	}
	return nil
}

// recipeMutants are faults in what such a backend has parameters for, and in how
// it remembers. The kernel keeps a list of senders as it was made, so a fault in
// one needs another name.
var recipeMutants = []struct {
	fault string
	edit  func(string) string
	keys  bool // it is in rules of keys
}{
	{"progress lasts too long", edit(`--seconds 1 (--name POSTERN-OK)`, "--seconds 2 $1"), false},
	{"a grant lasts too long", edit(`--seconds 2 (--name POSTERN-OPEN)`, "--seconds 3 $1"), false},
	{"a grant for one connection admits more", edit(`(?m)-m recent --remove --name POSTERN-OPEN\S+ --mask \S+ --rsource (-[gj] \S+)$`, "$1"), false},
	{"a datagram that was admitted is not known again", edit(`(?m)^.*--ctstatus CONFIRMED -j RETURN\n`, ""), false},
	{"nothing that was admitted is known again", edit(`(?m)^.*--ctstat(us CONFIRMED|e (?:RELATED,)?ESTABLISHED) -j RETURN\n`, ""), false},
	{"an ACK does not knock in the recipe", edit(`(?m)^(-A POSTERN-INPUT) (-g POSTERN-KNOCKING)$`, "$1 -p tcp -m tcp ! --syn -j DROP\n$1 $2"), false},
	{"an ACK knocks with other rules", edit(`(?m)^.* ! --tcp-flags FIN,SYN,RST,ACK SYN .*\n`, ""), false},
	{"the budget of first knocks is too large", edit(`burst 20 (--hashlimit-mode srcip --hashlimit-name POSTERN)`, "burst 23 ${1}MANY"), false},
	{"the budget of first knocks is a /64's", edit(`(--hashlimit-name POSTERN\S*)-48 --hashlimit-srcmask 48`, "$1-64 --hashlimit-srcmask 64"), false},
	{"the budget of first knocks is a single address's", edit(`(--hashlimit-name POSTERN\S*)-48 --hashlimit-srcmask 48`, "$1"), false},
	{"a user's networks are not asked for", edit(`(?m)^-A POSTERN-KEY-\S+ -j POSTERN-USER-.*\n`, ""), true},
	{"the port of keys is one of the others", edit(`(?m)^.*--dport 5555 .*\n`, ""), true},
	{"a token leaves the progress of its source", edit(`(?m)^-A POSTERN-FORGET -m recent --remove .*\n`, ""), true},
	{"a token gives nothing", edit(`(?m)^-A POSTERN-GIVE-\S+ -m recent --set .*\n`, ""), true},
	{"a mask is forgotten", edit(`(--name POSTERN-\S+)-(?:24|64)(\S*) --mask (?:255\.255\.255\.0|ffff:ffff:ffff:ffff::) `, "$1$2 "), false},
}

// TestRecipeFaults proves that the suite finds faults in rules with other
// parameters, too.
func TestRecipeFaults(t *testing.T) {
	t.Parallel()
	for _, m := range recipeMutants {
		t.Run(m.fault, func(t *testing.T) {
			t.Parallel()
			if f, _ := find(t, recipeMutant{iptables.Backend{Variant: "nft"}, m.edit, m.keys}); f == nil {
				t.Error("the suite has not noticed it")
			}
		})
	}
}
