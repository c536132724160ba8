package conformance

import (
	"math/rand/v2"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/packet"
	"postern/internal/policy"
)

// The parameters that backends have.
var (
	exact     = automaton.Exact
	confirmed = automaton.Parameters{Inputs: automaton.NewConnections, Known: automaton.Confirmed, Attempts: automaton.FirstKnocks, Counted: automaton.OnlyFirst}
	recipe    = automaton.Parameters{Inputs: automaton.AnyPacket, Known: automaton.Answered}
)

// modelPolicy has doors for TCP, UDP and ICMP knocks, and something allowed.
const modelPolicy = `
allow: [{service: 8443}, {service: udp/8053}, {service: icmp/echo}]
doors:
  ssh:
    service: [22, udp/53]
    knock: {sequence: [1001, udp/1002], step_timeout: 1m, retransmits: reset}
    open_for: 1m
    admit: one
`

// modelOf compiles a policy, which is closed if its posture is "".
func modelOf(t *testing.T, p automaton.Parameters, posture, text string) *model {
	t.Helper()
	if posture == "" {
		posture = "closed"
	}
	parsed, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: "+posture+"\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(parsed)
	if err != nil {
		t.Fatal(err)
	}
	m.Parameters = p
	return newModel(m)
}

// A try is a packet and what must become of it.
type try struct {
	port  string
	sport uint16 // the packets with one source port are of one flow
	flags packet.TCPFlags
	seq   uint32
	link  int
	want  string
}

func (y try) probe(t *testing.T) probe {
	t.Helper()
	port, err := policy.ParsePort(y.port)
	if err != nil {
		t.Fatal(err)
	}
	s := probe{src: block(0).addr(false, 0, 1), dst: servers4[0], port: port, sport: y.sport, seq: y.seq, link: y.link}
	if port.Protocol == policy.TCP {
		if s.flags = y.flags; s.flags == 0 {
			s.flags = packet.SYN
		}
	}
	return s
}

// verdictOf returns an outcome in the words of the tests.
func verdictOf(v outcome) string {
	text := string(v.kind)
	if v.kind == input {
		text = [...]string{1: "again", 2: "admitted", 3: "spent", 4: "moved", 5: "begun"}[v.verdict.Rule]
		if v.verdict.Rule == 5 && v.verdict.To == automaton.Root {
			text = "reset"
		}
		if v.verdict.Granted {
			text = "granted"
		}
	}
	if v.pass {
		text += ", in"
	}
	return text
}

func TestModel(t *testing.T) {
	// A knock, then the service.
	opened := func(rest ...try) []try {
		return append([]try{{port: "1001", sport: 1, want: "begun"}, {port: "udp/1002", sport: 2, want: "granted"}}, rest...)
	}
	for _, test := range []struct {
		name       string
		parameters automaton.Parameters
		posture    string
		interfaces string
		tries      []try
	}{
		{name: "exact: an admitted SYN is known by its sequence number", parameters: exact, tries: opened(
			try{port: "22", sport: 3, want: "admitted, in"},
			try{port: "22", sport: 3, want: "again, in"},
			try{port: "22", sport: 3, seq: 1, want: "reset"},
			try{port: "22", sport: 3, flags: packet.ACK, want: "no input"},
			try{port: "udp/53", sport: 4, want: "admitted, in"},
			try{port: "udp/53", sport: 4, want: "known flow, in"},
			try{port: "udp/53", sport: 5, want: "reset"},
		)},
		{name: "confirmed: it is known by its addresses and ports", parameters: confirmed, tries: opened(
			try{port: "22", sport: 3, want: "admitted, in"},
			try{port: "22", sport: 3, seq: 1, want: "known flow, in"},
			try{port: "22", sport: 3, flags: packet.ACK, want: "known flow, in"},
			try{port: "22", sport: 4, want: "reset"},
			try{port: "22", sport: 4, flags: packet.ACK, want: "no input"},
			try{port: "udp/53", sport: 4, want: "admitted, in"},
			try{port: "udp/53", sport: 4, want: "known flow, in"},
		)},
		{name: "answered: the same, except UDP, which is not answered", parameters: recipe, tries: opened(
			try{port: "22", sport: 3, want: "admitted, in"},
			try{port: "22", sport: 3, seq: 1, want: "known flow, in"},
			try{port: "22", sport: 3, flags: packet.FIN | packet.ACK, want: "known flow, in"},
			try{port: "udp/53", sport: 4, want: "admitted, in"},
			try{port: "udp/53", sport: 4, want: "reset"},
			try{port: "udp/8053", sport: 5, want: "allowed, in"},
			try{port: "udp/8053", sport: 5, want: "allowed, in"},
			try{port: "icmp/echo", sport: 6, want: "allowed, in"},
			try{port: "icmp/echo", sport: 6, want: "known flow, in"},
		)},
		{name: "any packet: an ACK knocks", parameters: recipe, tries: []try{
			{port: "1001", sport: 1, flags: packet.ACK, want: "begun"},
			{port: "7777", sport: 2, flags: packet.RST, want: "reset"},
			{port: "1001", sport: 1, flags: packet.ACK, want: "begun"},
			{port: "udp/1002", sport: 3, want: "granted"},
			{port: "22", sport: 4, flags: packet.ACK, want: "admitted, in"},
			{port: "22", sport: 4, flags: packet.ACK, want: "reset"}, // its RST has ended the flow
			{port: "22", sport: 4, want: "reset"},
		}},
		{name: "openings: an ACK does not", parameters: confirmed, tries: opened(
			try{port: "7777", sport: 3, flags: packet.ACK, want: "no input"},
			try{port: "22", sport: 4, flags: packet.ACK, want: "no input"},
			try{port: "22", sport: 5, want: "admitted, in"},
		)},
		{name: "confirmed: what passes untouched is known", parameters: confirmed, posture: "guard", tries: []try{
			{port: "1001", sport: 1, want: "begun, in"},
			{port: "1001", sport: 1, want: "known flow, in"},
			{port: "udp/1002", sport: 2, want: "granted, in"},
			{port: "7777", sport: 3, flags: packet.ACK, want: "no input, in"},
			{port: "7777", sport: 3, want: "reset, in"},
			{port: "7777", sport: 3, want: "known flow, in"},
			{port: "22", sport: 4, want: "admitted, in"},
			{port: "22", sport: 5, flags: packet.ACK, want: "no input"},
		}},
		{name: "exact: of TCP it is not", parameters: exact, posture: "guard", tries: []try{
			{port: "1001", sport: 1, want: "begun, in"},
			{port: "1001", sport: 1, want: "begun, in"},
			{port: "udp/7777", sport: 1, want: "reset, in"},
			{port: "udp/7777", sport: 1, want: "known flow, in"},
		}},
		{name: "confirmed: a flow is known on every cable", parameters: confirmed, interfaces: links[0], tries: []try{
			{port: "22", sport: 1, link: 1, want: "ungoverned, in"},
			{port: "22", sport: 1, want: "known flow, in"},
			{port: "22", sport: 2, link: 1, flags: packet.ACK, want: "ungoverned, in"},
			{port: "22", sport: 2, want: "reset"},
			{port: "udp/53", sport: 3, link: 1, want: "ungoverned, in"},
			{port: "udp/53", sport: 3, want: "known flow, in"},
		}},
		{name: "answered: once it is answered", parameters: recipe, interfaces: links[0], tries: []try{
			{port: "22", sport: 1, link: 1, want: "ungoverned, in"},
			{port: "22", sport: 1, flags: packet.ACK, want: "known flow, in"},
			{port: "udp/53", sport: 3, link: 1, want: "ungoverned, in"},
			{port: "udp/53", sport: 3, want: "reset"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := modelPolicy
			if test.interfaces != "" {
				text = "interfaces: [" + test.interfaces + "]\n" + text
			}
			o := modelOf(t, test.parameters, test.posture, text)
			for i, y := range test.tries {
				at := time.Duration(i) * time.Millisecond
				if got := verdictOf(o.step(span{from: at, to: at}, y.probe(t))); got != y.want {
					t.Errorf("packet %d, %s: %s, want %s", i+1, y.probe(t), got, y.want)
				}
			}
		})
	}
}

// A flow that nothing has come of for long may be forgotten.
func TestModelFlowAges(t *testing.T) {
	o := modelOf(t, confirmed, "", modelPolicy)
	s := try{port: "8443", sport: 1}.probe(t)
	for _, test := range []struct {
		at     time.Duration
		unsure bool
	}{{0, false}, {9 * time.Second, false}, {18 * time.Second, false}, {28 * time.Second, true}} {
		if v := o.step(span{from: test.at, to: test.at}, s); v.unsure != test.unsure {
			t.Errorf("after %v: unsure %t", test.at, v.unsure)
		}
	}
}

// Where nothing bounds attempts, none is refused and none is unsure.
func TestModelUnbounded(t *testing.T) {
	for name, test := range map[string]struct {
		parameters automaton.Parameters
		refused    bool
	}{"every input": {exact, true}, "first knocks": {confirmed, true}, "unbounded": {recipe, false}} {
		t.Run(name, func(t *testing.T) {
			o := modelOf(t, test.parameters, "", modelPolicy)
			refused := false
			for i := range 2 * automaton.Attempts.Burst {
				v := o.step(span{}, try{port: "1001", sport: uint16(i)}.probe(t))
				if v.unsure {
					t.Fatalf("knock %d is unsure", i+1)
				}
				refused = refused || v.refused
			}
			if refused != test.refused {
				t.Errorf("refused: %t", refused)
			}
		})
	}
}

// With an empty budget a source cannot begin, also if another that shares it has spent
// it. Where every input counts, it cannot go on either.
func TestModelBudget(t *testing.T) {
	for name, test := range map[string]struct {
		parameters automaton.Parameters
		spends     string // the port that spends it
		goesOn     bool
	}{"every input": {exact, "7777", false}, "first knocks": {confirmed, "1001", true}} {
		t.Run(name, func(t *testing.T) {
			o := modelOf(t, test.parameters, "", modelPolicy)
			sport := uint16(0)
			from := func(host byte, port string) outcome {
				sport++
				s := try{port: port, sport: sport}.probe(t)
				s.src, s.dst = block(0).addr(true, int(host%2), host), servers6[0]
				return o.step(span{}, s)
			}
			for range test.parameters.Attempts.Burst - 1 {
				from(1, test.spends)
			}
			if v := from(2, "1001"); v.refused || v.verdict.To == automaton.Root {
				t.Error("the last attempt is refused")
			}
			if v := from(3, "1001"); !v.refused || v.forgot {
				t.Error("one attempt more is not refused")
			}
			if v := from(2, "udp/1002"); v.verdict.Granted != test.goesOn || v.forgot == test.goesOn {
				t.Errorf("the second knock is granted: %t", v.verdict.Granted)
			}
			if v := from(2, "22"); v.pass != test.goesOn {
				t.Errorf("the service is open: %t", v.pass)
			}
		})
	}
}

// TestBudgetBounds: whenever a kernel sees packets within their spans, its decision
// is the reference's or unsure. And not all are unsure.
func TestBudgetBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	budget := automaton.Budget{Rate: 40, Burst: 5}
	seen := map[string]int{}
	for range 2000 {
		at := span{to: time.Duration(r.Int64N(int64(10 * time.Millisecond)))}
		bounds := newBudgetBounds(budget, at)
		kernel := bounds.size // what is left at the time now
		now := time.Duration(0)
		for range 40 {
			if chance(r, 0.5) {
				at.from = at.to + time.Duration(r.Int64N(int64(2*bounds.cost)))
				at.to = at.from + time.Duration(r.Int64N(int64(bounds.cost/2)))
			}
			was := now
			now = max(now, at.from+time.Duration(r.Int64N(int64(at.to-at.from)+1)))
			kernel = min(bounds.size, kernel+now-was)
			least, most := bounds.left(at)
			if kernel < least || kernel > most {
				t.Fatalf("%v is not from %v to %v", kernel, least, most)
			}
			what := "left"
			switch {
			case bounds.unsure(at):
				what = "unsure"
			case bounds.spent(at):
				what = "spent"
			}
			seen[what]++
			bounds.take(at)
			if kernel >= bounds.cost {
				kernel -= bounds.cost
			}
		}
	}
	t.Log(seen)
	for _, what := range []string{"left", "spent", "unsure"} {
		if seen[what] < 3000 {
			t.Errorf("%d packets with a budget that was %s", seen[what], what)
		}
	}
}

// Many packets of one span do not blur what is left: only so much time has passed.
func TestBudgetBoundsOfBurst(t *testing.T) {
	budget := automaton.Attempts
	at := span{from: time.Second, to: time.Second + 5*time.Millisecond}
	bounds := newBudgetBounds(budget, at)
	for i := range 2 * budget.Burst {
		if spent := i >= budget.Burst; bounds.unsure(at) || bounds.spent(at) != spent {
			t.Fatalf("packet %d: unsure %t, spent %t", i+1, bounds.unsure(at), bounds.spent(at))
		}
		bounds.take(at)
	}
}
