package policy

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxKnocks bounds a sequence. Two dozen knocks are beyond any guessing.
const maxKnocks = 32

func (w *walker) readKnock(d *Door, at *doorEntry, key, n *yaml.Node) map[string]entry {
	k := &d.Knock
	return w.fields("knock", key, n, []field{
		{key: "sequence", shape: list, example: "[PORT, PORT, PORT]", read: func(n *yaml.Node) { w.readSequence(k, at, n) }},
		{key: "step_timeout", shape: word, example: "3s", absent: "3s", read: func(n *yaml.Node) {
			k.StepTimeoutPos = place(n)
			w.duration(n, "step_timeout", &k.StepTimeout, 100*time.Millisecond, time.Hour)
		}},
		{key: "retransmits", shape: word, example: "ignore", absent: "ignore", read: func(n *yaml.Node) {
			choose(w, n, "retransmits", &k.Retransmits, RetransmitsIgnore, RetransmitsReset)
		}},
	})
}

func (w *walker) readSequence(k *Knock, at *doorEntry, n *yaml.Node) {
	if count := len(n.Content); count > maxKnocks {
		w.fail(n.Content[maxKnocks], fmt.Sprintf("the sequence has %d knocks", count),
			fmt.Sprintf("a sequence has %d at most", maxKnocks))
		return
	}
	for _, c := range w.words(n, "a knock", "a port, as in 1234, udp/4000 or icmp/echo") {
		p, f := port(c.Value, forKnock)
		if !w.check(c, f) {
			continue
		}
		k.Sequence = append(k.Sequence, p)
		k.SequencePos = append(k.SequencePos, place(c))
		at.knocks = append(at.knocks, c)
	}
	if len(at.knocks) < len(n.Content) {
		at.knocks = nil // with a knock missing it is no sequence to compare
	}
}
