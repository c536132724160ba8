package conformance

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// String returns a report: the policy, each packet, the reference's verdict and
// what the kernel did.
func (f *failure) String() string {
	var b strings.Builder
	t := f.trial
	fmt.Fprintf(&b, "seed %d, policy %d: a packet was not judged as by the reference\n", f.seed, f.round)
	if f.alone {
		fmt.Fprintf(&b, "(reduced by playing it again %d times)\n", f.tries)
	} else if f.again {
		b.WriteString("(it recurred among the other scenarios, but not alone)\n")
	} else {
		b.WriteString("(it did not recur)\n")
	}
	if f.replace {
		fmt.Fprintf(&b, "(meanwhile the rules were replaced by those of %s, in the opposite order)\n", f.plan.change)
	}
	b.WriteString("\n" + f.plan.text() + "\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\ttime\tpacket\treference\tkernel\n")
	for i, v := range t.outcomes[:min(len(t.outcomes), t.wrong+1)] {
		kernel, differs := "kept out", ""
		if t.admitted[i] {
			kernel = "let in"
			if m := t.marks[i]; m != unmarked || v.mark != nothing {
				kernel += ", " + m.String()
			}
		}
		if t.misjudged(i) {
			differs = "  <- differs"
		}
		at := (t.sent[i].from - t.sent[0].from).Round(100 * time.Microsecond)
		fmt.Fprintf(table, "%d\t%v\t%s\t%s\t%s%s\n", i+1, at, t.scenario[i].probe, t.model.describe(v), kernel, differs)
	}
	table.Flush()
	if t.held != "" {
		fmt.Fprintf(&b, "after packet %d: %s\n", t.wrong+1, t.held)
	}
	return b.String()
}

// describe returns what the reference does with a packet.
func (o *model) describe(v outcome) string {
	what := "kept out"
	if v.pass {
		what = "let in"
	}
	if v.kind != input {
		text := string(v.kind) + ": " + what
		switch {
		case v.token && v.verdict.Granted:
			text += ", opens " + v.verdict.Door.Name
		case v.token:
			text += ", may not open " + v.verdict.Door.Name
		}
		return text
	}
	d := &v.verdict
	text := fmt.Sprintf("rule %d: ", d.Rule)
	switch {
	case d.Admitted:
		text += "let in to " + d.Service.String()
	case d.From == d.To:
		text += what + ", stays at " + o.state(d.From)
	default:
		text += what + ", " + o.state(d.From) + " -> " + o.state(d.To)
	}
	switch {
	case d.Granted:
		text += ", opens " + d.Door.Name
	case d.Door != nil:
		text += ", may not open " + d.Door.Name
	case v.refused:
		text += ", budget spent"
	}
	if v.forfeits {
		text += ", loses grants"
	}
	return text
}
