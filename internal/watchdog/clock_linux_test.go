package watchdog

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/firewall/nftables"
	"postern/internal/key"
	"postern/internal/keyfile"
	"postern/internal/lab/labtest"
)

var setClock = flag.Bool("set-clock", false, "run the test that sets the machine's clock, in a virtual machine of package kernels")

// TestClock: whatever becomes of the server's clock, no token opens the door twice; and
// once it is right, the next token of a client whose clock was right opens it.
func TestClock(t *testing.T) {
	if _, err := os.Stat("/suite/run"); !*setClock || err != nil {
		t.Skip("sets the machine's clock; make kernels runs it in a virtual machine")
	}
	const policy = labtest.Closed + "keys: {port: udp/40123}\nusers: {alice: {devices: [laptop, phone]}}\n" +
		"doors: {ssh: {service: 22, knock: {key: [alice]}}}\n"
	c := &clock{scene: newScene(t, nftables.Backend{}), began: time.Now(), file: filepath.Join(t.TempDir(), "keys.yaml")}
	defer c.set(0)
	if _, err := keyfile.Change(c.file, func(f *keyfile.File) error {
		c.laptop = f.Credential(f.Enroll("alice/laptop"), "ssh")
		c.phone = f.Credential(f.Enroll("alice/phone"), "ssh")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	labtest.Greet(t, c.Gateway, 22, "hello")
	c.setTAI(0)
	c.upWithKeys(policy, c.file)
	c.watch(true)

	// With the offset of a moment ago, nothing would open for 42 s.
	c.setTAI(37)
	c.opens("TAI becomes known as soon as the rules are loaded")
	c.setTAI(0)
	c.opens("TAI is forgotten")
	c.setTAI(37)
	c.opens("TAI becomes known")

	for _, step := range []time.Duration{time.Hour, -time.Hour, 30 * time.Second, -30 * time.Second} {
		c.set(step)
		c.shut("the clock is set by " + step.String())
		c.set(0)
		c.opens("the clock was set by " + step.String() + ", and back")
	}

	// A client whose clock is as wrong.
	c.set(time.Hour)
	if !c.accepts(c.token(c.phone, time.Hour), labtest.IPv4) {
		t.Error("both clocks are an hour fast: a token opens nothing")
	}
	c.set(0)
	c.shut("both clocks were an hour fast")
	c.opens("one client's clock was an hour fast; another's")
	c.upWithKeys(policy, c.file)
	c.set(time.Hour) // or an hour later
	c.shut("it is an hour later, and the rules were loaded again")
	c.set(0)
	c.opens("in the end")
}

// A clock is the scene of TestClock.
type clock struct {
	*scene
	began         time.Time
	file          string
	laptop, phone key.Credential
	used          []key.Token
}

// right returns the right time, whatever the clock says.
func (c *clock) right() time.Time { return c.began.Add(time.Since(c.began)) }

// set sets the machine's clock so far ahead.
func (c *clock) set(ahead time.Duration) {
	c.T.Helper()
	to := unix.NsecToTimespec(c.right().Add(ahead).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &to); err != nil {
		c.T.Fatal(err)
	}
}

// setTAI tells the kernel how many seconds TAI is ahead of UTC, as a time daemon does.
func (c *clock) setTAI(seconds int64) {
	c.T.Helper()
	const adjTAI = 0x80
	if _, err := unix.Adjtimex(&unix.Timex{Modes: adjTAI, Constant: seconds}); err != nil {
		c.T.Fatal(err)
	}
}

// token returns a token that is made by a clock so far ahead. All are recorded.
func (c *clock) token(by key.Credential, ahead time.Duration) key.Token {
	token := by.Token(c.right().Add(ahead), netip.Addr{}, key.Lane4)
	c.used = append(c.used, token)
	return token
}

// accepts reports whether a token opens the door, for an address that nobody had.
func (c *clock) accepts(token key.Token, f labtest.Family) bool {
	c.T.Helper()
	from := c.NewAddress(f)
	p := c.ToGateway(from, labtest.UDP(40123))
	p.Payload = token[:]
	c.Send(p)
	return c.Try(from, labtest.TCP(22)) == labtest.SYNACK
}

// opens fails the test unless tokens by the right time open the door soon, and then
// checks shut.
func (c *clock) opens(when string) {
	c.T.Helper()
	began := time.Now()
	c.until(when+": a token opens the door", func() bool {
		time.Sleep(200 * time.Millisecond)
		return c.accepts(c.token(c.laptop, 0), labtest.IPv4)
	})
	c.T.Logf("%s: after %s", when, time.Since(began).Round(time.Millisecond))
	c.shut(when)
}

// shut fails the test if a token that was sent before opens the door, over either family.
func (c *clock) shut(when string) {
	c.T.Helper()
	for _, f := range []labtest.Family{labtest.IPv4, labtest.IPv6} {
		for i, token := range c.used {
			if c.accepts(token, f) {
				c.T.Errorf("%s: token %d of %d opens the door a second time, over %v", when, i+1, len(c.used), f)
			}
		}
	}
}
