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
//     it. What the user wrote is quoted.
//   - With --json there is no talk: what would be said is in the answer.
//   - Colour helps on a terminal and says nothing by itself. NO_COLOR turns it off.
//   - We never say that knocking makes a service safe. It hides it.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
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

// A remark is a warning.
type remark struct {
	Message string   `json:"message"`
	Hints   []string `json:"hints,omitempty"`
	File    string   `json:"file,omitempty"`
	Line    int      `json:"line,omitempty"`
	Column  int      `json:"column,omitempty"`

	text string // a diagnostic's, which shows the line
}

func newVoice(out, err *os.File) voice {
	return voice{out: out, err: err, outTTY: colourful(out), errTTY: colourful(err)}
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
		if r.text != "" {
			fmt.Fprintf(v.err, "%s %s\n", label, r.text)
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
	r := remark{Message: d.Message, File: d.File, Line: d.Line, Column: d.Column, text: d.String()}
	if d.Hint != "" {
		r.Hints = []string{d.Hint}
	}
	return r
}

// fail says what went wrong, and gives the exit code.
func (v *voice) fail(f *failure) int {
	if v.json {
		v.answer(struct {
			Error *failure `json:"error"`
		}{f})
		return f.Code
	}
	if f.quiet {
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

It warns of other rules on this host that get in the way of a door. If you came
in over SSH, and the policy would keep your address out of that port, it wants
--yes.`
	exampleUp = `  postern up
  postern up -f examples/guard.yaml --yes`

	shortDown = "take everything out of the kernel again"
	longDown  = `Removes Postern's own table from the kernel, and nothing else. What the policy
hid is then as open as without it.`

	shortStatus = "show what is loaded, who knocks, who may enter"
	longStatus  = `Shows whether the kernel runs the policy, which sources are part-way through a
knock, which hold a grant and for how long, and what was counted.`

	shortShow = "print the rules, loading nothing"
	longShow  = `Prints the rule set that "postern up" would load, for the nft program to read.
It needs no privilege, and gives the same on every host.`
	exampleShow = `  postern show -f policy.yaml | less
  postern show --comments=false > postern.nft`

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

	shortHelp       = "say more about a verb"
	shortCompletion = "print a script that completes postern's verbs in a shell"

	flagFile     = "the policy `FILE`, or - for standard input"
	flagJSON     = "answer with JSON, for programs"
	flagHelp     = "say more"
	flagVersion  = "print the version"
	flagYes      = "go on even if the policy keeps you out of the port you came in by"
	flagFormat   = "the `FORMAT` of the rules: nft"
	flagComments = "explain every part"
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

func unknownFormat(format string) error {
	return fmt.Errorf("unknown format %q: there is only \"nft\"", format)
}

func surplus(arg string) error { return fmt.Errorf("unexpected argument %q", arg) }

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
