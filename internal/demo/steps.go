package demo

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/key"
	"postern/internal/paragraph"
)

// A scene is a step of the story.
type scene struct {
	title string
	play  func(context.Context) error
}

func (s *story) steps() []scene {
	return []scene{
		{"Without Postern: a scan finds the service", s.exposed},
		{"With Postern: every port looks the same", s.hidden},
		{"Knocking in the wrong order", s.wrongOrder},
		{"Knocking in the right order", s.rightOrder},
		{"One knock, one connection", s.usedUp},
		{"The connection stays open", s.livesOn},
		{"Bob knocks too, and then does nothing", s.bobKnocks},
		{"Meanwhile: a door to the host behind the gateway", s.forwarded},
		{"Meanwhile: the same over IPv6", s.overIPv6},
		{"Bob's grant expires", s.expired},
		{"A key: one packet that nobody can repeat", s.byKey},
	}
}

func (s *story) opening() {
	out := s.screen
	out.line("%s", out.paint(bold, "postern demo: hiding a service behind a knock"))
	out.blank()
	out.line("  Ann  %-13s ---+", s.ann.v4)
	out.line("                        +--- gateway  %-11s ---  inside  %s", s.v4, s.inside)
	out.line("  Bob  %-13s ---+    a service on port %d   one on port %d", s.bob.v4, sshPort, insidePort)
	out.blank()
	out.text("The hosts are network namespaces on this machine and disappear with the" +
		" demo. The packets are real, and the rules run in the kernel.")
	out.blank()
	out.text("Knocking means: before a client connects to a hidden port, it tries a few" +
		" closed ports in a secret order. Ann and Bob both know it. No port answers, but" +
		" the gateway's kernel sees the order and opens the hidden port, for this address" +
		" only and for a short time.")
}

func (s *story) ending() {
	out := s.screen
	out.blank()
	checks := 0
	for _, step := range s.report.Steps {
		checks += len(step.Claims)
	}
	if s.report.OK {
		out.line("%s", out.paint(green, fmt.Sprintf("All %d checks hold.", checks)))
	} else {
		out.line("%s", out.paint(red, "A check failed, and the demo ends here."))
	}
	out.blank()
	out.text("Remember: " + Note + ". Anyone who watches the network sees the knocks and can repeat them; a key's token nobody can.")
	if s.report.OK {
		out.blank()
		out.text("To hide a service of your own: see \"Your first door\" in README.md.")
	}
}

// scanned are the ports that Ann scans: the service's, the knocks', well-known
// ones and some others. The first knock is not the last of them, so that the
// scan leaves no progress.
var scanned = []uint16{1234, 2345, 21, sshPort, 80, 443, 3456, doorPort, 9999, 31337, 54321}

// scan prints the answers of all scanned ports, equal ones on one line. It
// returns them, and a summary in words.
func (s *story) scan() (answers []answer, said string, err error) {
	answers, err = s.try(s.ann, s.ann.v4, scanned...)
	if err != nil {
		return nil, "", err
	}
	s.screen.line("Ann scans the gateway:")
	kinds := slices.Clone(answers)
	slices.Sort(kinds)
	slices.Reverse(kinds) // what is open comes first
	for _, kind := range slices.Compact(kinds) {
		var ports []uint16
		for i, a := range answers {
			if a == kind {
				ports = append(ports, scanned[i])
			}
		}
		slices.Sort(ports)
		if said != "" {
			said += ", "
		}
		said += fmt.Sprintf("%q from %s", kind, numbers(ports))
		label := string(kind)
		for _, l := range paragraph.Wrap(numbers(ports), Width-24) {
			s.screen.line("  %-18s %s", label, l)
			label = ""
		}
	}
	return answers, said, nil
}

func (s *story) exposed(context.Context) error {
	s.screen.text("No rules yet. A scanner tries port after port and notes what answers.")
	answers, said, err := s.scan()
	if err != nil {
		return err
	}
	ok := true
	for i, a := range answers {
		ok = ok && (a == accepted) == (scanned[i] == sshPort)
	}
	s.claim(ok, said, "only port %d accepts: everyone can see the service", sshPort)
	return nil
}

func (s *story) hidden(context.Context) error {
	if err := s.load(s.machine); err != nil {
		return err
	}
	s.loaded = time.Now()
	s.screen.text("The gateway loads examples/howto.yaml, which hides port 22 behind the" +
		" knocks " + numbers(sshKnock) + ", and adds this door for step 8:")
	for _, l := range strings.Split(strings.TrimRight(door, "\n"), "\n") {
		s.screen.line("  %s", l)
	}
	answers, said, err := s.scan()
	if err != nil {
		return err
	}
	alike := len(slices.Compact(slices.Clone(answers))) == 1
	s.claim(alike && answers[0] == silence, said,
		"none of the %d ports answers: there is nothing to find", len(scanned))
	return nil
}

func (s *story) wrongOrder(ctx context.Context) error {
	s.screen.text("The right ports, but in another order. The first wrong one resets Ann's" +
		" progress.")
	after, err := s.knock(ctx, s.ann, s.ann.v4, wrongKnock)
	if err != nil {
		return err
	}
	s.claim(counted(after, 1, 0, 0), summary(after, s.ann), "the wrong port reset Ann's progress")
	return s.shut(s.ann, s.ann.v4, sshPort, "port %d is still shut for Ann", sshPort)
}

func (s *story) rightOrder(ctx context.Context) error {
	s.screen.text("Now " + numbers(sshKnock) + ".")
	after, err := s.knock(ctx, s.ann, s.ann.v4, sshKnock)
	if err != nil {
		return err
	}
	last := after[len(after)-1]
	s.claim(counted(after[:2], 1, 2) && inTime(after[:2], stepTimeout), summary(after, s.ann),
		"each correct knock gave Ann %s for the next", seconds(stepTimeout))
	s.claim(last.port == sshPort && inTime(after[2:], openFor), summary(after, s.ann),
		"the last one opened port %d for her, for %s", sshPort, seconds(openFor))
	if err := s.shut(s.bob, s.bob.v4, sshPort, "Bob has not knocked: it is shut for him"); err != nil {
		return err
	}
	s.began = time.Now()
	if s.session, err = s.dial(ctx, s.ann, s.ann.v4, sshPort); err != nil {
		return err
	}
	return s.greeted(s.session, "Ann", sshBanner)
}

// greeted claims that a connection exists, and to which service.
func (s *story) greeted(c *call, who, banner string) error {
	if c.banner != "" {
		s.screen.line("%s connects, and the service says: %s", who, c.banner)
	}
	got := c.problem
	if got == "" {
		got = fmt.Sprintf("%q", c.banner)
	}
	s.claim(c.banner == banner, got, "%s has a connection to the service itself", who)
	return nil
}

func (s *story) usedUp(context.Context) error {
	s.screen.text("The policy says \"admit: one\": the next client from this address, or Ann" +
		" herself, has to knock again.")
	now, err := s.status(s.ann.v4)
	if err != nil {
		return err
	}
	s.claim(now == sourceStatus{}, now.describe(s.ann), "Ann's grant is used up")
	return s.shut(s.ann, s.ann.v4, sshPort, "her second connection is not admitted")
}

func (s *story) livesOn(context.Context) error {
	s.screen.text("Established connections stay open when the grant is used up.")
	answer, ok := s.session.ask("are you still there?")
	s.screen.line("Ann says: are you still there?")
	s.screen.line("service:  %s", answer)
	s.claim(ok, answer, "Ann's first connection works as before")
	return nil
}

func (s *story) bobKnocks(ctx context.Context) error {
	s.screen.text(fmt.Sprintf("A grant lasts %s. Bob does not use his.", seconds(openFor)))
	s.notBefore = time.Now()
	after, err := s.knock(ctx, s.bob, s.bob.v4, sshKnock)
	if err != nil {
		return err
	}
	s.notAfter = time.Now()
	last := after[len(after)-1]
	s.claim(last.port == sshPort, last.describe(s.bob), "port %d is open to Bob", sshPort)
	return nil
}

func (s *story) forwarded(ctx context.Context) error {
	s.screen.text(fmt.Sprintf("Port %d of the gateway leads to port %d of %s, for those who"+
		" knock %s.", doorPort, insidePort, s.inside, numbers(insideKnock)))
	if err := s.shut(s.ann, s.ann.v4, doorPort, "without a knock, port %d is shut like all others", doorPort); err != nil {
		return err
	}
	if _, err := s.knock(ctx, s.ann, s.ann.v4, insideKnock); err != nil {
		return err
	}
	c, err := s.dial(ctx, s.ann, s.ann.v4, doorPort)
	defer c.close()
	if err != nil {
		return err
	}
	return s.greeted(c, "Ann", insideBanner(s.ann.v4))
}

func (s *story) overIPv6(ctx context.Context) error {
	s.screen.text(fmt.Sprintf("One policy covers both families. Ann uses %s now, an address that"+
		" has never knocked.", s.ann.v6))
	if err := s.shut(s.ann, s.ann.v6, sshPort, "port %d of %s is shut", sshPort, s.v6); err != nil {
		return err
	}
	if _, err := s.knock(ctx, s.ann, s.ann.v6, sshKnock); err != nil {
		return err
	}
	c, err := s.dial(ctx, s.ann, s.ann.v6, sshPort)
	defer c.close()
	if err != nil {
		return err
	}
	return s.greeted(c, "Ann", sshBanner)
}

func (s *story) expired(ctx context.Context) error {
	s.screen.text("He knocked in the right order, and has not connected.")
	early, err := s.countDown(ctx)
	if err != nil {
		return err
	}
	s.claim(early == "", early, "Bob's grant was valid until it expired")
	if err := s.shut(s.bob, s.bob.v4, sshPort, "now port %d is shut for Bob", sshPort); err != nil {
		return err
	}
	answer, ok := s.session.ask("and now?")
	s.claim(ok, answer, "Ann's first connection, by now %s old, still works", seconds(time.Since(s.began)))
	return nil
}

func (s *story) byKey(ctx context.Context) error {
	s.screen.text(fmt.Sprintf("Knocks can be watched and repeated. Port %d opens to a key of Ann's laptop"+
		" instead: her client sends one packet, a token. Bob has recorded it, and sends it, too. The policy has:", keyedPort))
	for _, l := range strings.Split(strings.TrimSpace(people)+"\ndoors:\n"+strings.TrimRight(keyed, "\n"), "\n") {
		s.screen.line("  %s", l)
	}
	// A token counts if it was made after the rules were loaded. The gateway may know those
	// of some times only.
	made := key.Lane4.Point(s.loaded.Add(key.DefaultWindow.Ahead)).Add(key.Spacing)
	if err := sleep(ctx, time.Until(made)); err != nil {
		return err
	}
	token := s.key.Token(made, netip.Addr{}, key.Lane4)
	if err := s.shut(s.ann, s.ann.v4, keyedPort, "without a token, port %d is shut for Ann", keyedPort); err != nil {
		return err
	}
	if err := s.sendToken(s.ann, s.ann.v4, token); err != nil {
		return err
	}
	now, err := s.status(s.ann.v4)
	if err != nil {
		return err
	}
	s.screen.line("Ann sends the token    gateway: %s", now.describe(s.ann))
	c, err := s.dial(ctx, s.ann, s.ann.v4, keyedPort)
	defer c.close()
	if err != nil {
		return err
	}
	if err := s.greeted(c, "Ann", sshBanner); err != nil {
		return err
	}
	if err := s.sendToken(s.bob, s.bob.v4, token); err != nil {
		return err
	}
	if now, err = s.status(s.bob.v4); err != nil {
		return err
	}
	s.screen.line("Bob sends the same     gateway: %s", now.describe(s.bob))
	return s.shut(s.bob, s.bob.v4, keyedPort, "the recorded token is used up: port %d stays shut for Bob", keyedPort)
}

// countDown waits until Bob's grant must have expired, and watches it
// meanwhile. It returns what was wrong if the grant expired early.
func (s *story) countDown(ctx context.Context) (early string, err error) {
	const tick = 250 * time.Millisecond
	s.screen.line("Waiting for the rest of his %s.", seconds(openFor))
	if s.screen.Paced {
		defer s.screen.blank() // ends the line that is written over
	}
	end := s.notAfter.Add(openFor + 2*tick)
	for time.Now().Before(end) {
		now, err := s.status(s.bob.v4)
		if err != nil {
			return "", err
		}
		// Kernels count in jiffies: the last moment is not checked.
		left := time.Until(s.notBefore.Add(openFor))
		if left > tick && now.port != sshPort && early == "" {
			early = fmt.Sprintf("it expired %.1f s too early", left.Seconds())
		}
		if s.screen.Paced {
			s.screen.again("gateway: " + now.describe(s.bob))
		}
		if err := sleep(ctx, min(tick, time.Until(end))); err != nil {
			return "", err
		}
	}
	return early, nil
}
