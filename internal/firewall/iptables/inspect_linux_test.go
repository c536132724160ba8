package iptables

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// TestInspect: Inspect returns who is knocking and who has a grant, while that lasts.
func TestInspect(t *testing.T) {
	t.Parallel()
	const policy = labtest.Closed + `doors:
  ssh: {service: tcp/22, knock: {sequence: [1, 2], step_timeout: 40s}, open_for: 50s}
  web: {service: [tcp/80, tcp/81], knock: {sequence: [1, 3, 4], step_timeout: 40s}, open_for: 30s}
  soon: {service: tcp/90, knock: {sequence: [8, 9], step_timeout: 1s}, open_for: 1s}
source: {ipv4: 24, ipv6: 64}
`
	m := labtest.Compile(t, Backend{}, policy)
	state := func(path ...uint16) automaton.StateID {
		for _, s := range m.States {
			var ports []uint16
			for _, p := range s.Path {
				ports = append(ports, p.Number)
			}
			if slices.Equal(ports, path) && !s.Opened {
				return s.ID
			}
		}
		t.Fatalf("no state after %v", path)
		return 0
	}
	grant := func(port uint16) automaton.GrantID {
		for _, g := range m.Grants {
			if m.Services[g.Service].Port.Number == port {
				return g.ID
			}
		}
		t.Fatalf("no grant for service %d", port)
		return 0
	}
	opened := map[automaton.StateID]bool{} // what a door leaves behind, which ignores late knocks
	for _, s := range m.States {
		opened[s.ID] = s.Opened
	}
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		s := labtest.NewScene(t, b)
		s.Up(policy)
		if st := s.Inspect(); len(st.Progress) > 0 || len(st.Grants) > 0 {
			t.Errorf("before any knock: %+v", st)
		}
		began := time.Now()
		windows := map[string]time.Duration{} // by who has what
		tell := func(source netip.Addr, what any, window time.Duration) {
			windows[fmt.Sprint(source, " ", what)] = window
		}
		for i, f := range families {
			source := func(n byte) netip.Addr { // of a network of its own
				a := netip.AddrFrom4([4]byte{198, 51, 100 + n, 7})
				if f == IPv6 {
					a = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x0c, 0, n, 15: 7})
				}
				return a
			}
			masked := func(n byte) netip.Addr { return m.Policy.Source.Prefix(source(n)).Masked().Addr() }
			s.Knock(source(1), labtest.TCP(1))
			tell(masked(1), state(1), 40*time.Second)
			s.Knock(source(2), labtest.TCP(1), labtest.TCP(3))
			tell(masked(2), state(1, 3), 40*time.Second)
			s.Knock(source(3), labtest.TCP(1), labtest.TCP(2))
			tell(masked(3), grant(22), 50*time.Second)
			s.Knock(source(4), labtest.TCP(1), labtest.TCP(3), labtest.TCP(4))
			tell(masked(4), grant(80), 30*time.Second)
			tell(masked(4), grant(81), 30*time.Second)
			if i == 0 {
				s.Knock(source(5), labtest.TCP(1), labtest.TCP(7)) // wrong
			}
			s.Knock(source(6), labtest.TCP(8), labtest.TCP(9))
			s.Knock(source(7), labtest.TCP(8))
		}
		s.Settled()
		ended := time.Now()
		time.Sleep(1100 * time.Millisecond) // until those of the door soon have run out, by the kernel's clock
		asked := time.Now()
		st := s.Inspect()
		answered := time.Now()
		told := map[string]bool{}
		add := func(source netip.Addr, what any, left time.Duration) {
			const inexact = 20 * time.Millisecond // of the kernel's ticks
			key := fmt.Sprint(source, " ", what)
			told[key] = true
			window, found := windows[key]
			least, most := window-answered.Sub(began)-inexact, window-asked.Sub(ended)+inexact
			switch {
			case !found:
				t.Errorf("no source has earned %s", key)
			case left < least || left > most:
				t.Errorf("%s: %v left, want %v to %v", key, left, least, most)
			}
		}
		for _, p := range st.Progress {
			if !opened[p.State] {
				add(p.Source, p.State, p.Left)
			}
		}
		for _, g := range st.Grants {
			add(g.Source, g.ID, g.Left)
		}
		for key := range windows {
			if !told[key] {
				t.Errorf("%s is not told", key)
			}
		}
		counted := func(st *firewall.Status) string {
			var all []string
			for _, c := range st.Counters {
				all = append(all, fmt.Sprint(c.Name, " ", c.Packets))
			}
			return strings.Join(all, ", ")
		}
		if got, want := counted(st), "door_soon 2, door_ssh 2, door_web 2"; got != want {
			t.Errorf("counted: %s, want %s", got, want)
		}
		// They go on when other doors change.
		s.Up(strings.Replace(policy, "source:", "  more: {service: tcp/99, knock: {sequence: [5, 6]}}\nsource:", 1))
		if got, want := counted(s.Inspect()), "door_more 0, door_soon 2, door_ssh 2, door_web 2"; got != want {
			t.Errorf("after a change, counted: %s, want %s", got, want)
		}
	})
}

// TestAltered: a change that another program makes to our rules shows, and the next Apply
// repairs it.
func TestAltered(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		for name, c := range map[string]struct {
			f    Family
			args string
		}{
			"a chain flushed":            {IPv4, "-F POSTERN-COVER"},
			"the first chain flushed":    {IPv6, "-F POSTERN-INPUT"},
			"all rules flushed":          {IPv4, "-F"},
			"the jump deleted":           {IPv4, "-D INPUT -j POSTERN-INPUT"},
			"the jump of IPv6 deleted":   {IPv6, "-D INPUT -j POSTERN-INPUT"},
			"the jump in nat deleted":    {IPv4, "-t nat -D PREROUTING -j POSTERN-PREROUTING"},
			"a second jump":              {IPv4, "-A INPUT -j POSTERN-INPUT"},
			"another way in":             {IPv4, "-A INPUT -i eth7 -j POSTERN-INPUT"},
			"a rule inserted":            {IPv4, "-I POSTERN-INPUT -j ACCEPT"},
			"a rule appended":            {IPv6, "-A POSTERN-KNOCKING -j ACCEPT"},
			"a chain in our name":        {IPv4, "-N POSTERN-MINE"},
			"a rule elsewhere, harmless": {IPv4, "-A OUTPUT -p tcp -j ACCEPT"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := lab.NewT(t).Host("host")
				const file = "testdata/everything.yaml"
				apply(t, h, b, file)
				want := everything(t, h, b.Variant)
				if s := labtest.Inspect(t, h, b); s.Altered || !s.Loaded {
					t.Fatalf("as applied: %+v", s)
				}
				command := program(b.Variant, c.f, "")
				if out, err := h.Command(t.Context(), command, strings.Fields(c.args)...).CombinedOutput(); err != nil {
					t.Fatalf("%s %s: %v\n%s", command, c.args, err, out)
				}
				harmless := strings.HasSuffix(name, "harmless")
				if s := labtest.Inspect(t, h, b); s.Altered == harmless || !s.Loaded {
					t.Errorf("altered: %v, loaded: %v", s.Altered, s.Loaded)
				}
				apply(t, h, b, file)
				if s := labtest.Inspect(t, h, b); s.Altered || s.Digest != b.Digest(machine(t, file)) {
					t.Errorf("not repaired: %+v", s)
				}
				if d := cmp.Diff(lines(want), lines(everything(t, h, b.Variant))); d != "" && !harmless {
					t.Errorf("what is loaded now differs (-before +after):\n%s", d)
				}
			})
		}
	})
}

// lines sorts them: chains that were made anew come last in a listing. Which chains
// of the kernel's were made is forgotten with the label.
func lines(text string) []string {
	return slices.Sorted(strings.SplitSeq(labelledCreated.ReplaceAllString(text, ""), "\n"))
}

var labelledCreated = regexp.MustCompile(labelCreated + `[A-Za-z ]+`)

// A whole family's rules may go.
func TestFamilyGone(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		for _, at := range places {
			file := "testdata/everything.yaml"
			if at.table == "raw" {
				file = "testdata/keys.yaml"
				if !lab.RealRoot() { // who may load what verifies tokens
					continue
				}
			}
			h := lab.NewT(t).Host("host")
			apply(t, h, b, file)
			if err := h.Do(func() error {
				before, err := b.read()
				if err != nil {
					return err
				}
				return b.load(before, at, content{})
			}); err != nil {
				t.Fatal(err)
			}
			s := labtest.Inspect(t, h, b)
			if !s.Altered || !s.Loaded {
				t.Errorf("without %v: %+v", at, s)
			}
		}
	})
}

// A machine without IPv6 has rules for IPv4 only. When it has IPv6 after all, that
// they are not enough shows.
func TestNoIPv6(t *testing.T) {
	was := ipv6Addresses
	defer func() { ipv6Addresses = was }()
	eachVariant(t, func(t *testing.T, b Backend) {
		ipv6Addresses = filepath.Join(t.TempDir(), "none")
		h := lab.NewT(t).Host("host")
		const file = "testdata/guard.yaml"
		apply(t, h, b, file)
		if s := labtest.Inspect(t, h, b); !s.Loaded || s.Altered {
			t.Errorf("without IPv6: %+v", s)
		}
		if got := listed(t, h, program(b.Variant, IPv6, "save")); strings.Contains(got, "POSTERN") {
			t.Errorf("without IPv6:\n%s", got)
		}
		ipv6Addresses = was
		if s := labtest.Inspect(t, h, b); !s.Loaded || !s.Altered {
			t.Errorf("with IPv6: %+v", s)
		}
		apply(t, h, b, file)
		if s := labtest.Inspect(t, h, b); s.Altered || !strings.Contains(listed(t, h, program(b.Variant, IPv6, "save")), "POSTERN") {
			t.Errorf("repaired: %+v", s)
		}
	})
}
