package main

// This file holds the words: what a person reads comes from here, and nowhere
// else in this package. (Diagnostics and errors of the packages below bring
// their own.)
//
//   - Standard output is data, and nothing else: what was asked for, as a table or
//     as JSON.
//   - Everything else is talk and goes to standard error: lower-case, a line at a
//     time, each beginning with "postern:", without a final period.
//   - "error:" says what went wrong, "warning:" what may, "hint:" what to do about
//     it; "note:" says what is right and good to know. What the user wrote is quoted.
//   - What is about a line of the policy is shown as compilers do it, beginning with
//     file:line:column, so that editors find the place.
//   - With --json there is no talk: what would be said is in the answer.
//   - Colour helps on a terminal and says nothing by itself. NO_COLOR turns it off.
//   - We never say that knocking makes a service safe. It hides it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
	"postern/internal/firewall/neighbour"
	"postern/internal/host"
	"postern/internal/lab"
	"postern/internal/migrate"
	"postern/internal/policy"
)

// A voice speaks to the person, or the program, that runs us.
type voice struct {
	out, err io.Writer
	outTTY   bool // may be coloured
	errTTY   bool
	json     bool
	remarks  []remark // the warnings so far
}

// A remark is a warning, or a note of what is as it should be.
type remark struct {
	Message string   `json:"message"`
	Note    bool     `json:"note,omitempty"`
	Hints   []string `json:"hints,omitempty"`
	File    string   `json:"file,omitempty"`
	Line    int      `json:"line,omitempty"`
	Column  int      `json:"column,omitempty"`

	text string // a diagnostic's, which shows the line
}

func newVoice(out, err *os.File) voice {
	return voice{remarks: []remark{}, out: out, err: err, outTTY: colourful(out), errTTY: colourful(err)}
}

// colourful tells whether a file is a terminal that may be written to in colour.
func colourful(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// The colours, as terminals take them.
const (
	plain  = "\x1b[0m"
	bold   = "\x1b[1m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	faint  = "\x1b[2m"
)

// colour puts text into a colour where the terminal has any.
func colour(tty bool, how, text string) string {
	if !tty {
		return text
	}
	return how + text + plain
}

// say talks.
func (v *voice) say(format string, args ...any) {
	if !v.json {
		fmt.Fprintf(v.err, "postern: "+format+"\n", args...)
	}
}

func (v *voice) hint(text string) { v.say("%s %s", colour(v.errTTY, bold, "hint:"), text) }

// warn gives remarks: at once to a person, with the answer to a program.
func (v *voice) warn(remarks ...remark) {
	v.remarks = append(v.remarks, remarks...)
	if v.json {
		return
	}
	for _, r := range remarks {
		label := colour(v.errTTY, yellow, "warning:")
		if r.Note {
			label = colour(v.errTTY, faint, "note:")
		}
		if r.text != "" {
			fmt.Fprintln(v.err, r.text)
			continue
		}
		v.say("%s %s", label, r.Message)
		for _, h := range r.Hints {
			v.hint(h)
		}
	}
}

// aboutLine makes a remark of a diagnostic.
func aboutLine(d policy.Diagnostic) remark {
	r := remark{Message: d.Message, File: d.File, Line: d.Line, Column: d.Column}
	if d.Hint != "" {
		r.Hints = []string{d.Hint}
	}
	d.Message = "warning: " + d.Message
	r.text = d.String()
	return r
}

// fail says what went wrong, and gives the exit code.
func (v *voice) fail(f *failure) int {
	if v.json && !f.answered {
		v.answer(struct {
			Error *failure `json:"error"`
		}{f})
		return f.Code
	}
	if v.json || f.quiet {
		return f.Code
	}
	for _, d := range f.Diagnostics {
		fmt.Fprintln(v.err, d)
	}
	v.say("%s %s", colour(v.errTTY, red, "error:"), f.Message)
	for _, h := range f.Hints {
		v.hint(h)
	}
	return f.Code
}

// answer writes an answer as JSON.
func (v *voice) answer(value any) error {
	e := json.NewEncoder(v.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// Verbs and flags.
const (
	shortRoot = "hide network services behind a knock"
	longRoot  = `Postern hides network services. A hidden service looks like a port with nothing
behind it, until a client knocks: a few connection attempts to the right closed
ports, in the right order. The kernel does all of it; no daemon stays behind.

Knocking hides a service. It is no substitute for the service's own
authentication: whoever watches the network can repeat a knock.`

	shortUp = "load the policy into the kernel"
	longUp  = `Compiles the policy and has the kernel run it, in place of the one it may be
running. Open connections, grants and knocks under way go on. Nothing changes
if anything fails.

It warns of other rules on this host that get in the way of a door, or by which a
hidden port shows. If you came in over SSH, and the policy would keep your
address out of that port, it wants --yes. So it does if an interface of the
policy is a port of another one (of a bridge, say), by whose name the packets
come in.

The rules are those of nftables. For a kernel or an administrator with iptables
alone there is --backend iptables: see "postern show --format iptables-save", and
docs/limits.md for what it does less well.`
	exampleUp = `  postern up
  postern up -f examples/guard.yaml --yes`

	shortDown = "take everything out of the kernel again"
	longDown  = `Removes Postern's own rules from the kernel, of whichever backend, and nothing
else. What the policy hid is then as open as without it.`

	shortStatus = "show what is loaded, who knocks, who may enter"
	longStatus  = `Shows whether the kernel runs the policy, which sources are part-way through a
knock, which hold a grant and for how long, and what was counted. It ends with
exit code 1 if somebody else has changed the loaded rules: what they hide may
be open then, and "postern up" mends it.`

	shortShow = "print the rules, loading nothing"
	longShow  = `Prints the policy in another form. It needs no privilege, and gives the same on
every host.

  nft                the rules that "postern up" loads, for the program nft
  iptables-save      rules for iptables-restore, and for tables with no others:
  ip6tables-save     where the policy has the habits of the well-known port
                     knocking how-to, the how-to's own
  iptables-script    the same as commands
  ip6tables-script
  client-sh          a script for those who are to come in: it knocks, and runs
  client-ps1         ssh. For a POSIX shell, and for PowerShell. It holds the
                     knocks: give it to nobody else
  ports              which ports a home router must forward`
	exampleShow = `  postern show -f policy.yaml | less
  postern show --comments=false > postern.nft
  postern show --format iptables-save > rules.v4
  postern show --format client-sh --door ssh > knock.sh`

	shortCheck = "find mistakes in the policy, and what scans do to it"
	longCheck  = `Says what is wrong with the policy. If nothing is: for each door, whether a scan
of all ports in order would open it, and how many random probes it takes on
average. Then what is likely a mistake, in the policy or on this host.`
	exampleCheck = `  postern check -f policy.yaml
  postern check --rate 100000 --here=false`

	shortKnock = "knock at a host's door"
	longKnock  = `Sends one knock to each port, in the given order: TCP unless a port is written
PORT:udp, or icmp/echo for a ping. No answer is waited for; none would tell
whether the door opened. Connect right after it, over the same address.`
	exampleKnock = `  postern knock server.example 47011 5120 31877 && ssh server.example
  postern knock -4 server.example 20914 7061:udp 41230`

	shortImport = "make a policy of iptables rules that knock, or of a knockd.conf"
	longImport  = `Reads what another port knocker is set up with, and prints a policy that means
the same. FILE is what iptables-save lists, or a script of iptables commands, if
their knocks are remembered by "-m recent"; or a knockd.conf; - is standard input.
Chains and lists may have any names: the doors are read off what the rules do.

What the policy does not hold, or holds otherwise, is listed on standard error,
line by line. The rest of the other firewall (what goes out, what is
forwarded, translation of addresses) stays where it is.

It reads FILE and nothing else, and changes nothing on this host: the old rules,
or knockd, go on working, and go on refusing what a door of postern lets in. Read
the policy, write it to a file, and go on with "postern check". Then, with a
second session open: "postern up"; stop knockd, or take the old rules out (first
"iptables -P INPUT ACCEPT", then the rules); and knock your way in from elsewhere.`
	exampleImport = `  iptables-save | postern import - > policy.yaml
  postern import /etc/knockd.conf > policy.yaml && postern check -f policy.yaml`

	shortHelp       = "say more about a verb"
	shortCompletion = "print a script that completes postern's verbs in a shell"

	flagFile     = "the policy `FILE`; - is standard input"
	flagJSON     = "answer with JSON, for programs"
	flagHelp     = "say more"
	flagVersion  = "print the version"
	flagYes      = "go on even if the policy keeps you out of the port you came in by, or hides nothing on an interface"
	flagComments = "explain every part of the rules"
	flagDoor     = "the `DOOR` that a client script opens; needed where the policy has several"
	flagBackend  = "the `BACKEND` that runs the policy: nftables or iptables"
	flagAll      = "show every source, not the first 20"
	flagIPv4     = "use the host's IPv4 address"
	flagIPv6     = "use the host's IPv6 address"
	flagDelay    = "the `TIME` between two knocks"
	flagRate     = "take a scan to send `N` probes a second"
	flagCPUs     = "take a host to judge `N` packets at the same moment"
	flagHere     = "look at this host as well: who listens, what is forwarded"
)

// Errors and their remedies.
const (
	sayNoVerb      = "no verb given"
	sayInterrupted = "interrupted"
	hintPrivilege  = "run it as root, for example with sudo, or give it CAP_NET_ADMIN"
	hintBusy       = "try again; if it stays so, see which other program keeps changing the firewall"
	hintNoPolicy   = "write a policy there, or name another with -f FILE; README.md has a first one"
	hintReadPolicy = "run it as root, or let this user read the file"
	hintBug        = "no rules were left half done; please report it, with the policy if you can"
)

func sayBug(value any, place string) string {
	return fmt.Sprintf("this is a bug in postern: %v (in %s)", value, place)
}

func sayInvalid(e *policy.InvalidError) string {
	n := len(e.Diagnostics) + e.More
	file := e.Diagnostics[0].File
	if e.More > 0 {
		return fmt.Sprintf("%q is no valid policy: %d mistakes, the first %d of them above", file, n, len(e.Diagnostics))
	}
	return fmt.Sprintf("%q is no valid policy: %s", file, count(n, "mistake"))
}

func sayBeyond(e *firewall.InexpressibleError) string {
	return fmt.Sprintf("the %s backend cannot do %s that the policy asks for", e.Backend, count(len(e.Diagnostics), "thing"))
}

func sayUnreadable(file string, err error) string {
	return fmt.Sprintf("cannot read the policy %q: %v", file, err)
}

func sayUnavailable(e *lab.UnavailableError) string {
	return "this needs network namespaces, and there are none here: " + e.Reason
}

func seeHelp(command string) string { return fmt.Sprintf("see %q", command+" --help") }

func unknownVerb(verb string, similar []string) error {
	if len(similar) > 0 {
		return fmt.Errorf("unknown verb %q: did you mean %q?", verb, similar[0])
	}
	return fmt.Errorf("unknown verb %q", verb)
}

func flagFormat() string { return "the `FORMAT`: " + formNames() }

func unknownFormat(format string) error {
	return fmt.Errorf("unknown format %q: there are %s", format, formNames())
}

func formNames() string {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return list(names)
}

// whichDoor asks for one of several doors.
func whichDoor(name string, all []string) *failure {
	f := &failure{Code: codeUsage, Message: fmt.Sprintf("there is no door %q", name), Hints: []string{"the policy has " + list(all)}}
	if name == "" {
		f.Message, f.Hints = "the policy has several doors", []string{"name one with --door: " + list(all)}
	}
	return f
}

func surplus(arg string) error { return fmt.Errorf("unexpected argument %q", arg) }

func wrongPlace(flag, verb string) error { return fmt.Errorf("%s has no use for %s", verb, flag) }

// The backends.

func unknownBackend(name string, all []string) error {
	return fmt.Errorf("unknown backend %q: there are %s", name, list(all))
}

// twoBackends warns of what an up that was killed may leave behind.
func twoBackends(all []running) remark {
	var names []string
	for _, r := range all {
		names = append(names, r.Name())
	}
	return remark{
		Message: fmt.Sprintf("the rules of several backends are loaded: %s; this is about the first", list(names)),
		Hints:   []string{"\"postern up\" takes out all but those of its --backend"},
	}
}

func stillThere(name string, err error) *failure {
	return &failure{
		Code: codeFailed, err: err,
		Message: fmt.Sprintf("the rules are loaded, but those of the %s backend could not be taken out: %v", name, err),
		Hints:   []string{"run the same command again: what they hide stays hidden until then"},
	}
}

// up

const sayRemember = "knocking hides a service; its own log-in must still be safe"

func (v *voice) sayLoaded(l loaded) {
	switch l.Replaced {
	case "same":
		v.say("%s rule set %s, which was there already", colour(v.errTTY, bold, "loaded"), l.RuleSet)
		return
	case "altered":
		v.say("%s rule set %s, which somebody had changed; grants are kept", colour(v.errTTY, bold, "mended"), l.RuleSet)
		return
	case "other":
		v.say("%s rule set %s in place of another; grants are kept", colour(v.errTTY, bold, "loaded"), l.RuleSet)
	default:
		v.say("%s rule set %s", colour(v.errTTY, bold, "loaded"), l.RuleSet)
	}
	if l.With != "" {
		v.say("the rules are those of %s", l.With)
	}
	for _, name := range l.TakenOut {
		v.say("the rules of the %s backend, which did the same until now, are taken out", name)
	}
	for i, d := range l.Doors {
		if i == mostRows && len(l.Doors) > mostRows+1 {
			v.say("and %d more doors", len(l.Doors)-i)
			break
		}
		v.say("door %s hides %s", d.Name, list(d.Services))
	}
	if l.Replaced == "nothing" {
		v.say(sayRemember)
	}
}

// A stuckDoor forwards, where the host does not.
type stuckDoor struct {
	door    string
	to      netip.AddrPort
	missing host.Setting
}

func (d *stuckDoor) message() string {
	return fmt.Sprintf("door %s leads to %s, and this host does not forward packets (%s is 0)", d.door, d.to, d.missing.Name)
}

func (d *stuckDoor) hints() []string {
	set := d.missing.Name + "=" + d.missing.Value
	return []string{
		fmt.Sprintf("turn it on with %q, and in /etc/sysctl.d for after a reboot", "sysctl "+set),
		"it makes a router of this host: look at its forward rules as well",
	}
}

func (d *stuckDoor) failure() *failure {
	return &failure{Code: codeFailed, Message: d.message(), Hints: d.hints()}
}

func (d *stuckDoor) remark() remark { return remark{Message: d.message(), Hints: d.hints()} }

func aboutAbsent(names []string, all bool) remark {
	it, comes := "it", "comes"
	if len(names) > 1 {
		it, comes = "they", "come"
	}
	r := remark{Message: fmt.Sprintf("this host has no interface %s: nothing is hidden there until %s %s", list(names), it, comes)}
	if all {
		r.Message = fmt.Sprintf("this host has no interface %s, and so the policy does nothing until it has", list(names))
	}
	r.Hints = []string{"\"ip link\" lists the interfaces there are; one that is renamed is another interface"}
	return r
}

func (e *enslaved) message() string {
	if e.master == "" {
		return fmt.Sprintf("%s is a port of a switch, and its packets do not come in by its name: nothing is hidden from them", e.name)
	}
	return fmt.Sprintf("%s is a port of %s, and its packets come in by that name: nothing is hidden from them", e.name, e.master)
}

func (e *enslaved) hint() string {
	if e.master == "" {
		return "write the interface that has the address, or leave interfaces out"
	}
	return fmt.Sprintf("write interfaces: [%s]", strings.Join(e.instead, ", "))
}

func (e *enslaved) remark() remark { return remark{Message: e.message(), Hints: []string{e.hint()}} }

func (e *enslaved) failure() *failure {
	return &failure{
		Code: codeFailed, Message: e.message() + "; nothing has changed",
		Hints: []string{e.hint(), "to go on all the same, say --yes"},
	}
}

// aboutObstacle warns of another rule set.
func aboutObstacle(o neighbour.Obstacle) remark {
	var ports []string
	for _, p := range o.Ports {
		ports = append(ports, p.String())
	}
	what, where := list(ports), fmt.Sprintf("table %s, chain %s", o.Table, o.Chain)
	if o.To.IsValid() {
		what += " to " + o.To.String()
	}
	switch o.Kind {
	case neighbour.Diverts, neighbour.MayDivert:
		if o.Manager == "docker" {
			return remark{Note: true, Message: fmt.Sprintf("docker publishes %s (%s): a knock leads to the container", what, where)}
		}
		sends := "sends"
		if o.Kind == neighbour.MayDivert {
			sends = "may send"
		}
		return remark{
			Message: fmt.Sprintf("%s %s %s elsewhere: that is where a knock will lead", where, sends, what),
			Hints:   []string{"right for a published container port; else take that rule out"},
		}
	case neighbour.Untracks:
		return remark{
			Message: fmt.Sprintf("%s keeps %s from connection tracking: a door for it will not work", where, what),
			Hints:   []string{"take that notrack rule out"},
		}
	case neighbour.DropsUnread:
		return remark{
			Message: fmt.Sprintf("%s drops by default, and may drop %s even after a knock", where, what),
			Hints:   []string{"see that it accepts them; postern keeps them hidden"},
		}
	}
	hint := "accept it there as well; postern keeps it hidden"
	port := o.Ports[0]
	switch {
	case o.Manager == "ufw" && o.To.IsValid():
		hint = fmt.Sprintf("\"ufw route allow to %s port %d proto %s\"; postern keeps it hidden", o.To, port.Number, port.Protocol)
	case o.Manager == "ufw":
		hint = fmt.Sprintf("\"ufw allow %d/%s\"; postern keeps it hidden", port.Number, port.Protocol)
	case o.Manager == "firewalld" && !o.To.IsValid():
		hint = fmt.Sprintf("\"firewall-cmd --permanent --add-port=%d/%s\" and \"firewall-cmd --reload\"; postern keeps it hidden", port.Number, port.Protocol)
	case o.Manager == "docker" && o.To.IsValid():
		program := "iptables"
		if o.To.Is6() {
			program = "ip6tables"
		}
		hint = fmt.Sprintf("\"%s -I DOCKER-USER -d %s -p %s --dport %d -j ACCEPT\"", program, o.To, port.Protocol, port.Number)
	}
	return remark{
		Message: fmt.Sprintf("%s drops %s, even after a knock", where, what),
		Hints:   []string{hint},
	}
}

// aboutEscape warns of a rule set that takes packets for hidden ports away before
// the rules of iptables see them.
func aboutEscape(o neighbour.Obstacle) remark {
	var ports []string
	for _, p := range o.Ports {
		ports = append(ports, p.String())
	}
	return remark{
		Message: fmt.Sprintf("table %s, chain %s sends %s elsewhere, where iptables rules do not see it: it is not hidden",
			o.Table, o.Chain, list(ports)),
		Hints: []string{"use the nftables backend, or take that rule out"},
	}
}

// aboutCutOff warns of ports that programs receive UDP on.
func aboutCutOff(ports []string) remark {
	it := "it"
	if len(ports) > 1 {
		it = "them"
	}
	return remark{
		Message: fmt.Sprintf("programs on this host receive on %s, and neither allow nor a door names %s: "+
			"others get through only after this host has sent them something, and a session by way of a VPN there may be cut off",
			list(ports), it),
		Hints: []string{"list in allow what others begin; answers to what this host asks come in all the same"},
	}
}

// aboutConspicuous warns of a rule set that refuses what is not hidden, otherwise
// than the cover refuses what is.
func aboutConspicuous(i neighbour.Idle, cover policy.Cover, fitting *policy.Cover) remark {
	how := map[neighbour.Refusal]string{
		neighbour.Silence:     "drops",
		neighbour.Reset:       "answers with a RST to",
		neighbour.Unreachable: "answers with port unreachable to",
		neighbour.Otherwise:   "answers with an ICMP error of its own to",
	}[i.Refusal]
	ip := "IPv4"
	if i.IPv6 {
		ip = "IPv6"
	}
	r := remark{Message: fmt.Sprintf(
		"table %s, chain %s %s what it does not list (%s over %s); under cover: %s the hidden ports answer otherwise, and show",
		i.Table, i.Chain, how, i.Protocol, ip, cover)}
	if fitting != nil {
		r.Hints = []string{fmt.Sprintf("write \"cover: %s\"", *fitting)}
	} else {
		r.Hints = []string{"no cover fits: have the other rules drop all else, over IPv4 and IPv6, and write \"cover: drop\""}
	}
	return r
}

// wouldShutOut refuses to shut the caller out.
func wouldShutOut(out *shutOutCaller) *failure {
	f := &failure{
		Code:    codeFailed,
		Message: fmt.Sprintf("you came in by %s from %s, and would be kept out of it; nothing has changed", out.port, out.From),
		Hints: []string{
			"to go on, say --yes: this session stays open, and a second one to fall back on is wise",
			wayBack(out),
			fmt.Sprintf("or need no knock from there, by an entry in allow: {service: %s, from: %s}", out.port, out.From),
		},
	}
	return f
}

// doesShutOut reminds a caller who wants it so.
func doesShutOut(out *shutOutCaller) remark {
	return remark{
		Message: fmt.Sprintf("you came in by %s from %s, and are kept out of it once this session ends", out.port, out.From),
		Hints:   []string{wayBack(out)},
	}
}

func wayBack(out *shutOutCaller) string {
	if out.door == nil {
		return fmt.Sprintf("there is no way back: no door opens %s to %s", out.port, out.From)
	}
	knocks := ""
	for _, port := range out.door.Knock.Sequence {
		knocks += " " + knockWord(port)
	}
	return fmt.Sprintf("the way back: postern knock %s%s", out.To.Addr(), knocks)
}

// knockWord is a knock as it is typed.
func knockWord(p policy.Port) string {
	switch p.Protocol {
	case policy.TCP:
		return strconv.Itoa(int(p.Number))
	case policy.UDP:
		return strconv.Itoa(int(p.Number)) + ":udp"
	}
	return p.String()
}

// down

func (v *voice) sayRemoved(r removed) {
	switch {
	case !r.Removed:
		v.say("nothing was loaded")
	case len(r.Open) > 0:
		v.say("removed: %s as open as without postern", isOrAre(list(r.Open), len(r.Open)))
	default:
		v.say("removed: what the policy hid is as open as without postern")
	}
}

func isOrAre(things string, n int) string {
	if n == 1 {
		return things + " is"
	}
	return things + " are"
}

// status

const sayNobody = "nobody is part-way, and nobody holds a grant"

var (
	headProgress = []string{"PART-WAY", "DOOR", "TIME LEFT"}
	headGrants   = []string{"MAY ENTER", "SERVICE", "TIME LEFT"}
	headCounters = []string{"COUNTED", "PACKETS"}
)

func loadedText(st state) string {
	by := ""
	if st.Backend != "nftables" {
		by = " by " + st.Backend
	}
	switch {
	case !st.Loaded:
		return "not loaded"
	case st.Altered:
		return fmt.Sprintf("changed since it was loaded%s, rule set %s", by, st.RuleSet)
	case st.Current == nil:
		return fmt.Sprintf("loaded%s, rule set %s", by, st.RuleSet)
	case *st.Current:
		return fmt.Sprintf("loaded%s, rule set %s, as in %s", by, st.RuleSet, st.File)
	}
	up := "postern up"
	if by != "" {
		up += " --backend " + st.Backend
	}
	return fmt.Sprintf("loaded%s, rule set %s; %s is another: %s loads it", by, st.RuleSet, st.File, up)
}

// altered says that the loaded rules are not what was applied. It is said after
// the status, which is told as it is.
func altered() *failure {
	return &failure{
		Code:     codeFailed,
		Message:  "somebody has changed the loaded rules: what they hide may be open",
		Hints:    []string{"\"postern up\" mends it; see which program flushes or edits rules"},
		answered: true,
	}
}

func namesUnknown(file string, err error) remark {
	r := remark{Message: fmt.Sprintf("no names for doors and services: %q is no valid policy", file)}
	var f *failure
	if errors.As(err, &f) {
		r.Message = "no names for doors and services: " + f.Message
		return r
	}
	r.Hints = []string{fmt.Sprintf("\"postern check -f %s\" says what is wrong", file)}
	return r
}

func moreText(n int) string { return fmt.Sprintf("and %d more; --all shows them", n) }

func leftText(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// counterText tells what a counter counts.
func counterText(name string) string {
	if name == "covered" {
		return "packets covered"
	}
	if door, ok := strings.CutPrefix(name, "door_"); ok {
		return "knocks completed at door " + door
	}
	return name
}

// check

var headCheck = []string{"DOOR", "KNOCKS", "ASCENDING SCAN", "DESCENDING SCAN", "RANDOM PROBES, ON AVERAGE"}

const (
	sayBadRate     = "--rate must be a number greater than 0"
	sayBadCPUs     = "--cpus must be 1 or more"
	hintKnockInUse = "choose a port that nothing listens on"
)

func (v *voice) sayScan(c checked) {
	v.say("a scan sends %s probes a second, and %d may be judged at once",
		strconv.FormatFloat(c.Rate, 'f', -1, 64), c.CPUs)
}

func (v *voice) sayValid(warnings int) {
	if warnings == 0 {
		v.say("the policy is valid")
		return
	}
	v.say("the policy is valid, with %s", count(warnings, "warning"))
}

func sayKnockInUse(p policy.Port) string {
	return fmt.Sprintf("a program on this host listens on %s: whoever uses it knocks", p)
}

func aboutUnlisted(ports []string) remark {
	return remark{
		Message: fmt.Sprintf("programs on this host listen on %s, which allow does not list", list(ports)),
		Hints:   []string{"list what clients use, or a connection to it spoils the knock that its sender is at"},
	}
}

// unhurried is the time between two knocks of a client far away, which has to wait
// for nothing but the network.
const unhurried = 50 * time.Millisecond

// aboutCapacity tells what xt_recent cannot do.
func aboutCapacity(c iptables.Capacity) remark {
	r := remark{
		Message: fmt.Sprintf("xt_recent remembers %d senders at each knock: %d forged first knocks a second keep out everybody whose knocks are %v apart",
			c.Senders, c.Senders*int(time.Second/unhurried), unhurried),
		Hints: []string{
			fmt.Sprintf("write \"options xt_recent ip_list_tot=%d\" to /etc/modprobe.d/xt_recent.conf, and load the module anew or boot", enough),
			"the nftables backend remembers a million",
		},
	}
	if c.Builtin {
		r.Hints[0] = fmt.Sprintf("add \"xt_recent.ip_list_tot=%d\" to the kernel's command line, and boot", enough)
	}
	return r
}

func unknownCapacity() remark {
	return remark{
		Message: "how many senders xt_recent remembers at each knock can be read by root only: 100, if nobody has changed it",
		Hints:   []string{"run it as root to see"},
	}
}

// opensText tells when a scan in order opens a door.
func opensText(probes *float64) string {
	if probes == nil {
		return "stays shut"
	}
	return fmt.Sprintf("OPENS after %.0f", *probes)
}

// averageText tells how long a random scan takes.
func averageText(probes *float64, rate float64) string {
	if probes == nil {
		return "never opens"
	}
	return fmt.Sprintf("%s (%s)", largeText(*probes), longText(*probes/rate))
}

func largeText(n float64) string {
	for _, size := range []struct {
		name string
		n    float64
	}{{"trillion", 1e12}, {"billion", 1e9}, {"million", 1e6}} {
		switch {
		case n >= 1e15:
			return strings.Replace(fmt.Sprintf("%.0e", n), "e+", "e", 1)
		case n >= size.n:
			return fmt.Sprintf("%.3g %s", n/size.n, size.name)
		}
	}
	return fmt.Sprintf("%.0f", n)
}

func longText(seconds float64) string {
	const day, year = 86400, 365.25 * 86400
	switch {
	case seconds >= 1e6*year:
		return "over a million years"
	case seconds >= 2*year:
		return fmt.Sprintf("%.0f years", seconds/year)
	case seconds >= 2*day:
		return fmt.Sprintf("%.0f days", seconds/day)
	case seconds >= 2*3600:
		return fmt.Sprintf("%.0f hours", seconds/3600)
	case seconds >= 2*60:
		return fmt.Sprintf("%.0f minutes", seconds/60)
	}
	return fmt.Sprintf("%.2g seconds", seconds)
}

// knock

const (
	sayBothFamilies  = "-4 and -6 exclude each other"
	sayNegativeDelay = "--delay must not be negative"
	hintPing         = "as root: sysctl net.ipv4.ping_group_range=\"0 2147483647\", or run it as root"
)

func errNoKnocks(args int) error {
	if args == 0 {
		return errors.New("which host, and which ports?")
	}
	return errors.New("which ports?")
}

func (v *voice) sayKnock(n, of int, p policy.Port, to netip.Addr) {
	v.say("knock %d of %d: %s of %s", n, of, p, to)
}

func (v *voice) sayKnocked(name string, to netip.Addr) {
	if name == to.String() {
		v.say("knocked; connect now")
		return
	}
	v.say("knocked; connect now, to %s", to)
}

// count is a number of things: "1 door", "2 doors".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// list is "a", "a and b", "a, b and c"; of many, the first few.
func list(all []string) string {
	const most = 8
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// import

const (
	sayNoImport     = "which file?"
	hintNothingLeft = "write the policy by hand; README.md has a first one"
)

func sayNotRead(name string, err error) string {
	return fmt.Sprintf("cannot read %q: %v", name, err)
}

// sayLeft lists what is not in a policy that was made.
func (v *voice) sayLeft(name string, left []migrate.Left) {
	if v.json {
		return
	}
	for _, l := range left {
		fmt.Fprintf(v.err, "%s: %s: %s\n", colour(v.errTTY, bold, fmt.Sprintf("%s:%d", name, l.Line)), l.Text, l.Why)
	}
}

func (v *voice) sayImported(left int) {
	if left == 0 {
		v.say("the policy holds all of it")
	} else {
		v.say("%s above, on what the policy does not hold, or holds otherwise", count(left, "remark"))
	}
	v.hint("the old rules are still there: \"postern import --help\" says what to do next")
}
