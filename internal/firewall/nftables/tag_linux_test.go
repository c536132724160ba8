package nftables

import (
	"crypto/rand"
	"fmt"
	"iter"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/conformance"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// applyTags loads a machine where there is no BPF.
func (s *scene) applyTags(m *automaton.Machine) {
	s.T.Helper()
	if err := s.Gateway.Do(func() error { return labtest.WithoutBPF(func() error { return s.Backend.Apply(m) }) }); err != nil {
		s.T.Fatal(err)
	}
}

// devicesOf returns a policy with a door for so many devices of alice's. The tags of one come
// every few seconds only.
func devicesOf(begin string, devices int) string {
	names := make([]string, devices)
	for i := range names {
		names[i] = fmt.Sprintf("d%d", i)
	}
	return begin + fmt.Sprintf(`keys: {port: udp/%d}
users: {alice: {devices: [%s]}, bob: {devices: [phone]}, eve: {devices: [phone], networks: [192.0.2.0/24]}}
doors:
  ssh: {service: tcp/22, knock: {key: [alice, eve]}, open_for: 1h}
  web: {service: tcp/80, knock: {key: [bob]}, open_for: 1h}
`, tokenPort, strings.Join(names, ", "))
}

// coming returns the first point of a lane whose tokens count after the rules have been
// loaded, and waits until they do.
func coming(loaded time.Time, lane key.Lane) time.Time {
	point := lane.Point(loaded.Add(key.DefaultWindow.Ahead + time.Second)).Add(key.Spacing)
	time.Sleep(time.Until(point.Add(-key.DefaultWindow.Ahead + 100*time.Millisecond)))
	return point
}

// TestTags: where there is no BPF a right token opens the door, once, in each envelope, and
// nothing else does. Under other rules, restored ones and others' keys that stays so.
func TestTags(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	const devices = 40
	m := labtest.Compile(t, s.Backend, devicesOf(labtest.Closed, devices))
	ring := labtest.Keys(m)
	s.applyTags(m)
	loaded := time.Now()
	labtest.Greet(t, s.Gateway, 22, "hello")
	used := 0
	fresh := func() key.Credential { // of a device that has sent nothing
		used++
		return labtest.Credential(ring, fmt.Sprintf("alice/d%d", used-1), "ssh")
	}
	send := func(e envelope, from netip.Addr, token key.Token) { s.Send(e.in(s, from, token[:])) }
	expect := func(from netip.Addr, want labtest.Answer, why string) {
		t.Helper()
		s.Expect(t, from, labtest.TCP(22), want, why)
	}
	point := coming(loaded, key.Lane4)
	right := func(c key.Credential) key.Token { return c.Token(point, netip.Addr{}, key.Lane4) }
	var replays []key.Token
	next := fresh() // comes in at the end
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		for _, e := range append(envelopes, "short syn") {
			src, c := s.NewAddress(f), fresh()
			for bit := range 8 * len(key.Tag{}) {
				flipped := right(c)
				flipped[bit/8] ^= 1 << (bit % 8)
				send(e, src, flipped)
			}
			for range 100 {
				var random key.Token
				rand.Read(random[:])
				send(e, src, random)
			}
			elsewhere, other := c, c
			elsewhere.Door, other.Secret = key.DoorID("web"), key.NewSecret()
			eve := labtest.Credential(ring, "eve/phone", "ssh")
			for why, token := range map[string]key.Token{
				"stale": c.Token(point.Add(-10*time.Minute), netip.Addr{}, key.Lane4),
				"early": next.Token(point.Add(10*time.Minute), netip.Addr{}, key.Lane4),
				"bound": c.Token(point, src, key.Lane4), "off the lattice": c.Token(point.Add(1), netip.Addr{}, key.Lane4),
				"in the other lane": c.Token(point, netip.Addr{}, key.Lane6), "of another key": right(other), "for another door": right(elsewhere),
				"from elsewhere": right(eve),
			} {
				send(e, src, token)
				expect(src, labtest.Silence, fmt.Sprintf("%s, a token that is %s", e, why))
			}
			send(e, src, right(c))
			expect(src, labtest.SYNACK, string(e)+", a right token")
			for _, again := range envelopes {
				for _, from := range []netip.Addr{src, s.NewAddress(labtest.IPv4), s.NewAddress(labtest.IPv6)} {
					send(again, from, right(c))
					expect(from, labtest.Silence, fmt.Sprintf("%s, replayed by %s", e, again))
				}
			}
			replays = append(replays, right(c))
		}
	})
	replayed := func(when string) {
		t.Helper()
		for _, token := range replays {
			from := s.NewAddress(labtest.IPv4)
			send("udp", from, token)
			expect(from, labtest.Silence, "replayed "+when)
		}
	}
	check := func(when string, keys int) {
		t.Helper()
		status := s.Inspect()
		if status.Altered || status.Keyless || len(status.Keys) != keys || status.Tags == nil || status.Tags.Stepped ||
			time.Until(status.Tags.Until) < longestTagged-time.Minute {
			t.Errorf("%s: altered %v, keyless %v, %d keys, tags %+v", when, status.Altered, status.Keyless, len(status.Keys), status.Tags)
		}
	}
	check("loaded", devices+2)

	// Other rules, with the tags of before.
	m2 := labtest.Compile(t, s.Backend, devicesOf(labtest.Closed+"cover: reset\n", devices))
	m2.Keys = m.Keys
	s.applyTags(m2)
	s.applyTags(m)
	check("loaded again", devices+2)
	replayed("under other rules")
	src := s.NewAddress(labtest.IPv4)
	send("udp", src, right(next))
	expect(src, labtest.SYNACK, "the next one")

	// A device is revoked.
	gone := fresh()
	if err := s.Gateway.Do(func() error { return Backend{}.Forget(gone.Device) }); err != nil {
		t.Fatal(err)
	}
	src = s.NewAddress(labtest.IPv4)
	send("udp", src, right(gone))
	expect(src, labtest.Silence, "revoked")
	check("revoked", devices+1)

	// A key is replaced. What its tokens began with means nothing.
	old := fresh()
	name := fmt.Sprintf("alice/d%d", used-1)
	ring.Devices[name] = automaton.DeviceKey{ID: key.NewDevice(), Secret: key.NewSecret()}
	s.applyTags(m)
	send("udp", src, right(old))
	expect(src, labtest.Silence, "replaced")

	// A user's time is over, by a policy that is loaded after the tags.
	over := labtest.Compile(t, s.Backend, strings.Replace(devicesOf(labtest.Closed, devices), "bob: {", "bob: {until: 2020-01-01, ", 1))
	over.Keys = m.Keys
	s.applyTags(over)
	src = s.NewAddress(labtest.IPv4)
	send("udp", src, right(labtest.Credential(ring, "bob/phone", "web")))
	s.Expect(t, src, labtest.TCP(80), labtest.Silence, "after the user's time")

	// Others take the rules, and with them what is known of used tags.
	if err := s.Gateway.Do(func() error {
		return labtest.WithoutBPF(func() error {
			err := loseAndRestore(m)
			loaded = time.Now()
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	check("restored", devices+2)
	replayed("when the rules were restored")
	point = coming(loaded, key.Lane4)
	src = s.NewAddress(labtest.IPv6)
	send("udp", src, right(labtest.Credential(ring, name, "ssh")))
	expect(src, labtest.SYNACK, "of the key that has replaced another")

	// The clock is set: all is loaded anew, and no used tag is right again.
	if err := s.Gateway.Do(func() error {
		return Backend{}.edit(func(all *batch) {
			all.flushSet("tagged")
			var shifted []entry
			for _, p := range tagPairs(m, ring) {
				t := tagged{Pair: p.Pair, until: time.Now().Add(time.Hour)}
				e := t.entry()
				e.expire += time.Minute
				shifted = append(shifted, e)
			}
			all.addElements("tagged", shifted)
		})
	}); err != nil {
		t.Fatal(err)
	}
	if tags := s.Inspect().Tags; !tags.Stepped {
		t.Errorf("the clock was set, and the tags are %+v", tags)
	}
	keeper := Keeper{}
	if err := s.Gateway.Do(func() error { return keeper.VerifyEverywhere(m) }); err != nil {
		t.Fatal(err)
	}
	check("when the clock was set", devices+2)
	replayed("when the clock was set")

	// The rules go, and all of it with them.
	if err := s.Gateway.Do(func() error { return labtest.WithoutBPF(Backend{}.Remove) }); err != nil {
		t.Error(err)
	}
}

// needRereading skips a test where nft crashes at its own list with tags in it, as that of
// Debian 11 does.
func needRereading(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("nft", "--version").Output(); err == nil && strings.Contains(string(out), " v0.") {
		t.Skipf("this is %s", out)
	}
}

// TestTagsListed: nft lists what verifies by tags as it reads our text of it, and can read
// its own list again, with tags in it.
func TestTagsListed(t *testing.T) {
	t.Parallel()
	l := lab.NewT(t)
	m := labtest.Compile(t, Backend{}, devicesOf(labtest.Closed, 1))
	byNetlink, byText := l.Host("netlink"), l.Host("text")
	load := func(h *lab.Host, text string) {
		t.Helper()
		nft := h.Command(t.Context(), "nft", "-f", "-")
		nft.Stdin = strings.NewReader(text)
		if out, err := nft.CombinedOutput(); err != nil {
			t.Fatalf("nft does not read it: %v\n%s\n%.2000s", err, out, text)
		}
	}
	apply := func() {
		t.Helper()
		if err := byNetlink.Do(func() error { return labtest.WithoutBPF(func() error { return Backend{}.Apply(m) }) }); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	r := Compile(m)
	r.verifyByTags(m.Policy)
	load(byText, r.Render(firewall.Plain))
	// Where kernel and nft know it, a table is made to persist; the text does not say so.
	loaded := strings.Replace(list(t, byNetlink), "\tflags persist\n\n", "", 1)
	if d := cmp.Diff(list(t, byText), loaded); d != "" {
		t.Errorf("nft lists them differently (-text +netlink):\n%s", d)
	}
	needRereading(t)
	labtest.Keys(m)
	apply()
	out, err := byNetlink.Command(t.Context(), "nft", "list", "ruleset").Output()
	if err != nil {
		t.Fatal(err)
	}
	listed := string(out)
	if n := strings.Count(listed, "expires"); n < 100 {
		t.Fatalf("only %d elements", n)
	}
	load(byText, "flush ruleset\n"+listed)
}

// TestTagsReloaded: who loads what nft has listed lets no token in once more, and no connection
// by a grant that is used. What is not used stays as good as it was. An old listing shows, and
// what was used since is refused once tags are loaded anew.
func TestTagsReloaded(t *testing.T) {
	needRereading(t)
	t.Parallel()
	s := newScene(t)
	m := labtest.Compile(t, s.Backend, devicesOf(labtest.Closed, 10))
	ring := labtest.Keys(m)
	s.applyTags(m)
	point := coming(time.Now(), key.Lane4)
	points := map[int]time.Time{} // of each device's token
	renew := func() { point = coming(time.Now(), key.Lane4); clear(points) }
	labtest.Greet(t, s.Gateway, 22, "hello")
	send := func(e envelope, from netip.Addr, device int) {
		t.Helper()
		if _, sent := points[device]; !sent {
			if time.Since(point) > key.DefaultWindow.Behind/2 { // on a busy machine
				point = coming(time.Now(), key.Lane4)
			}
			points[device] = point
		}
		token := labtest.Credential(ring, fmt.Sprintf("alice/d%d", device), "ssh").Token(points[device], netip.Addr{}, key.Lane4)
		s.Send(e.in(s, from, token[:]))
	}
	expect := func(from netip.Addr, want labtest.Answer, why string) {
		t.Helper()
		s.Expect(t, from, labtest.TCP(22), want, why)
	}
	all := append(envelopes, "short syn")
	for i, e := range all {
		src := s.NewAddress(labtest.IPv4)
		send(e, src, i)
		expect(src, labtest.SYNACK, string(e)+", a right token")
	}
	granted := s.NewAddress(labtest.IPv6)
	send("udp", granted, len(all))
	s.Settled()
	for range 2 {
		s.nft("flush ruleset\n" + s.nft("list ruleset"))
	}
	for i, e := range all {
		src := s.NewAddress(labtest.IPv4)
		for range 2 {
			send(e, src, i)
			expect(src, labtest.Silence, string(e)+", replayed after the rules were loaded from a listing")
		}
	}
	expect(granted, labtest.SYNACK, "a grant of before")
	expect(granted, labtest.Silence, "the same grant, once more")
	src := s.NewAddress(labtest.IPv4)
	send("udp", src, len(all)+1)
	expect(src, labtest.SYNACK, "a token that nobody has used")
	send("udp", src, len(all)+1)
	expect(src, labtest.Silence, "a token that was used since")

	listed := s.nft("list ruleset")
	send("udp", s.NewAddress(labtest.IPv4), len(all)+2)
	time.Sleep(clockSlack + 500*time.Millisecond)
	s.nft("flush ruleset\n" + listed)
	if tags := s.Inspect().Tags; !tags.Stepped {
		t.Errorf("loaded from an old listing, tags are %+v", tags)
	}
	k := keeper(t, s.Gateway).(*Keeper)
	if err := s.Gateway.Do(func() error { return k.VerifyEverywhere(m) }); err != nil {
		t.Fatal(err)
	}
	if status := s.Inspect(); status.Tags.Stepped || status.Altered {
		t.Errorf("loaded anew, tags are %+v, altered %v", status.Tags, status.Altered)
	}
	src = s.NewAddress(labtest.IPv4)
	for device := range len(all) + 3 {
		send("udp", src, device)
	}
	expect(src, labtest.Silence, "tokens of before the tags were loaded anew")

	// A listing that is as new as this does not show. The watchdog hears of it.
	renew()
	listed = s.nft("list ruleset")
	src = s.NewAddress(labtest.IPv4)
	send("udp", src, 1)
	expect(src, labtest.SYNACK, "a token of the tags that were loaded anew")
	s.nft("flush ruleset\n" + listed)
	if tags := s.Inspect().Tags; tags.Stepped {
		t.Skip("this machine is too slow to load a listing in two seconds")
	}
	if err := s.Gateway.Do(func() error {
		return labtest.WithoutBPF(func() error { _, err := k.Restore(m); return err })
	}); err != nil {
		t.Fatal(err)
	}
	src = s.NewAddress(labtest.IPv4)
	send("udp", src, 1)
	expect(src, labtest.Silence, "replayed after the watchdog has heard of a new listing")
	renew()
	send("udp", src, 1)
	expect(src, labtest.SYNACK, "a token of the tags that the watchdog has loaded")
}

// byTags is the backend where there is no BPF.
type byTags struct{ Backend }

func (b byTags) Apply(m *automaton.Machine) error {
	return labtest.WithoutBPF(func() error { return b.Backend.Apply(m) })
}

func (b byTags) Remove() error { return labtest.WithoutBPF(b.Backend.Remove) }

func (b byTags) Know(m *automaton.Machine, tags func(key.Credential) iter.Seq2[time.Time, key.Tag]) error {
	keys, err := m.Keyring()
	if err != nil {
		return err
	}
	for _, p := range tagPairs(m, keys) {
		if err := b.addTags(p, tags(p.Credential)); err != nil {
			return err
		}
	}
	return nil
}

// TestConformanceTags proves that the rules decide as the automaton does where tags verify
// tokens.
func TestConformanceTags(t *testing.T) { conformance.Run(t, byTags{}) }

// TestTagsFlushed: where others have taken the rules out, and left the tags, the first
// transaction brings the rules back, and takes the sets of tags out as a whole. There may be
// so many tags that the kernel takes seconds to take them out one by one.
func TestTagsFlushed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := labtest.Compile(t, s.Backend, devicesOf(labtest.Closed, 10))
	labtest.Keys(m)
	s.applyTags(m)
	labtest.Greet(t, s.Gateway, 22, "hello")
	k := keeper(t, s.Gateway).(*Keeper)
	for range 2 { // the first time it compiles the rules as well
		s.nft("flush table inet " + Table)
		s.Expect(t, s.NewAddress(labtest.IPv4), labtest.TCP(22), labtest.SYNACK, "without rules")
		first := s.transactions()
		if err := s.Gateway.Do(func() error {
			return labtest.WithoutBPF(func() error { _, err := k.Restore(m); return err })
		}); err != nil {
			t.Fatal(err)
		}
		got := <-first
		for got.GeneratedBy.Error == nil && len(got.Changes) == 0 {
			got = <-first // it changes nothing
		}
		if err := got.GeneratedBy.Error; err != nil {
			t.Fatal("the kernel's notices are lost: ", err)
		}
		rules, sets := 0, []string{}
		for _, e := range got.Changes {
			switch e.Type {
			case nft.MonitorEventTypeNewRule:
				rules++
			case nft.MonitorEventTypeDelSet:
				sets = append(sets, e.Data.(*nft.Set).Name)
			}
		}
		for _, c := range k.rules.chains {
			rules -= len(c.rules)
		}
		if rules < 0 {
			t.Errorf("the first transaction lacks %d rules", -rules)
		}
		for _, name := range []string{"tags", "early", "tagged"} {
			if !slices.Contains(sets, name) {
				t.Errorf("the first transaction takes out %v, and %s not", sets, name)
			}
		}
		s.Expect(t, s.NewAddress(labtest.IPv4), labtest.TCP(22), labtest.Silence, "with rules")
	}
}

// transactions returns what changes the gateway's rules from now on.
func (s *scene) transactions() <-chan *nft.MonitorEvents {
	s.T.Helper()
	monitor := nft.NewMonitor(nft.WithMonitorEventBuffer(1000))
	var all <-chan *nft.MonitorEvents
	if err := s.Gateway.Do(func() (err error) {
		conn, err := nft.New(nft.WithSockOptions(func(c *netlink.Conn) error {
			// Tags are thousands of notices, and the kernel drops those that have no room.
			return c.SetReadBuffer(16 << 20)
		}))
		if err != nil {
			return err
		}
		all, err = conn.AddGenerationalMonitor(monitor)
		return err
	}); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { monitor.Close() })
	return all
}
