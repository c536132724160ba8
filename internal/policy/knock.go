package policy

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

// MaxKnocks limits a sequence. Two dozen knocks are already beyond guessing.
const MaxKnocks = 32

func (w *walker) readKnock(d *Door, at *doorEntry, key, n *yaml.Node) map[string]document.Entry {
	k, before := &d.Knock, w.ErrorCount()
	entries := w.Fields("knock", key, n, []document.Field{
		{Key: "sequence", Shape: document.List, Example: "[PORT, PORT, PORT]", Default: "that only keys open it", Read: func(n *yaml.Node) {
			k.Sequence, k.SequencePos, at.knocks = w.readSequence("the sequence", n)
		}},
		{Key: "close", Shape: document.List, Example: "[PORT, PORT, PORT]", Default: "that no knock closes it", Read: func(n *yaml.Node) {
			k.Close, k.ClosePos, at.closing = w.readSequence("close", n)
		}},
		{Key: "step_timeout", Shape: document.Scalar, Example: document.FormatDuration(DefaultStepTimeout), Default: document.FormatDuration(DefaultStepTimeout), Read: func(n *yaml.Node) {
			k.StepTimeoutPos = document.PositionOf(n)
			w.duration(n, "step_timeout", &k.StepTimeout, MinTime, MaxStepTimeout)
		}},
		{Key: "retransmits", Shape: document.Scalar, Example: string(DefaultRetransmits), Default: string(DefaultRetransmits), Read: func(n *yaml.Node) {
			choose(w, n, "retransmits", &k.Retransmits, RetransmitsIgnore, RetransmitsReset)
		}},
		{Key: "key", Shape: document.List, Example: "[alice]", Default: "that no key opens it", Read: func(n *yaml.Node) { w.readKeyList(k, at, n) }},
	})
	_, sequence := entries["sequence"]
	_, keys := entries["key"]
	if !sequence && !keys && w.ErrorCount() == before {
		w.Fail(key, "knock has neither a sequence nor keys", "add \"sequence: [PORT, PORT, PORT]\", or \"key: [NAME]\"")
	}
	for _, of := range []string{"close", "step_timeout", "retransmits"} {
		if e, there := entries[of]; there && !sequence && keys {
			w.Fail(e.Key, of+" has no meaning without a sequence", "remove it, or add a sequence")
		}
	}
	return entries
}

// readSequence returns the knocks of a sequence, and where they are: as positions, and as
// nodes, if none is invalid.
func (w *walker) readSequence(named string, n *yaml.Node) (all []Port, at []Position, nodes []*yaml.Node) {
	if count := len(n.Content); count > MaxKnocks {
		w.Fail(n.Content[MaxKnocks], fmt.Sprintf("%s has %d knocks", named, count),
			fmt.Sprintf("a sequence has %d at most", MaxKnocks))
		return nil, nil, nil
	}
	for _, c := range w.Scalars(n, "a knock", "a port, as in 1234, udp/4000 or icmp/echo") {
		p, f := port(c.Value, forKnock)
		if !w.Check(c, f) {
			continue
		}
		all = append(all, p)
		at = append(at, document.PositionOf(c))
		nodes = append(nodes, c)
	}
	if len(nodes) < len(n.Content) {
		nodes = nil // an incomplete sequence cannot be compared
	}
	return all, at, nodes
}
