package conformance

import (
	"context"
	"fmt"
	"strings"

	"postern/internal/automaton"
	"postern/internal/packet"
)

// marks says where an arrived packet carries the plans' mark.
type marks int

const (
	unmarked marks = iota
	packetMarked
	connectionMarked
	bothMarked
)

func (m marks) String() string {
	return [...]string{unmarked: "unmarked", packetMarked: "only the packet marked",
		connectionMarked: "only the connection marked", bothMarked: "marked"}[m]
}

// A markWanted is what must be marked.
type markWanted int

const (
	nothing    markWanted = iota
	connection            // and the packet may be
	both
	anything // what was admitted before with the same addresses and ports has marked the connection, if that is still known
)

func (w markWanted) allows(m marks) bool {
	switch w {
	case nothing:
		return m == unmarked
	case connection:
		return m == connectionMarked || m == bothMarked
	case both:
		return m == bothMarked
	}
	return true
}

// mark returns what must be marked after a packet of a flow was judged.
func (o *model) mark(f flow, v outcome) markWanted {
	switch {
	case o.machine.Policy.Admitted.Mark == 0:
		return nothing
	case v.verdict.Admitted:
		o.marked[f] = true
		return both
	case v.kind == known && o.marked[f]:
		return connection
	case o.marked[f]:
		return anything
	}
	return nothing
}

// markRules are another firewall, behind the rules under test and in no one's way: it
// writes into each packet's traffic class how it is marked, for the captures behind it.
var markRules = func() string {
	is := func(of string) string { return fmt.Sprintf("%s mark and %s == %s", of, mark, mark) }
	isNot := func(of string) string { return strings.Replace(is(of), "==", "!=", 1) }
	var b strings.Builder
	b.WriteString("table inet marks {\n\tchain input {\n\t\ttype filter hook input priority 300;\n")
	for m, matches := range map[marks]string{
		packetMarked:     is("meta") + " " + isNot("ct"),
		connectionMarked: isNot("meta") + " " + is("ct"),
		bothMarked:       is("meta") + " " + is("ct"),
	} {
		for _, header := range []string{"ip", "ip6"} {
			fmt.Fprintf(&b, "\t\t%s %s dscp set %d\n", matches, header, m)
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}()

// marksOf reads what these rules have written.
func marksOf(p *packet.Packet) marks {
	const ecn = 2 // bits
	return marks(p.TrafficClass >> ecn)
}

// showMarks loads the rules.
func (w *testbed) showMarks() error {
	nft := w.server.Command(context.Background(), "nft", "-f", "-")
	nft.Stdin = strings.NewReader(markRules)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w\n%s", err, out)
	}
	return nil
}

// marking reports whether a plan marks what is admitted.
func marking(p *plan, _ automaton.Parameters) bool { return p.marked }
