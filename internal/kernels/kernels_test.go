//go:build linux

package kernels

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/internal/lab"
)

var (
	enabled = flag.String("kernels", "", "the Debian releases whose kernels the tests run on, as \"bookworm trixie-backports\"")
	suites  = flag.String("suites", "", "of the suites only those that this regular expression matches")
	only    = flag.String("only", "", "of the tests of the suites, and of links, only those that this regular expression matches")
	kvm     = flag.Bool("kvm", false, "use the processor's virtualization, with an ordinary clock")
	memory  = flag.Int("memory", 3072, "of a machine, in MiB")
	verbose = flag.Bool("all-output", false, "print all that a machine prints, as it comes")
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// A suite is what a machine runs: tests of one package.
type suite struct {
	name string
	pkg  string // below internal
	args []string
}

// All suites, in their order: the tests that ask the kernel. Those that load a machine,
// kill programs at any moment or compare thousands of lines are apart, as they take
// software emulation an hour each.
var all = []suite{
	{"demo", "demo", []string{"-test.run=TestStory/piped"}},
	{"nftables", "firewall/nftables", []string{"-test.skip=" + long + "|EarlyLinks"}},
	{"iptables", "firewall/iptables", []string{"-test.skip=" + long + "|" + sessions}},
	{"bpf", "firewall/bpf", []string{"-test.skip=Kill|Object|Faults|WithoutConntrack"}},
	{"early-links", "firewall/nftables", []string{"-test.run=EarlyLinks", "-every-link"}},
	{"clock", "watchdog", []string{"-test.run=TestClock", "-set-clock"}},
	{"scripts", "cli", []string{"-test.run=TestScripts/^(up|confirm|watchdog)$"}},
	{"backends", "firewall/backends", []string{"-test.skip=" + long}},
	{"otherrules", "preflight/otherrules", nil},
	{"findings", "cli", []string{"-test.run=TestScripts/^(findings-.*|interfaces|published)$"}},
	{"stealth", "stealth", []string{"-test.run=Answers"}},
	{"lab", "lab", nil},
	{"iptables-sessions", "firewall/iptables", []string{"-test.run=" + sessions}},
	{"nftables-conformance", "firewall/nftables", []string{"-test.run=Conformance", "-packets=4000"}},
	{"iptables-conformance", "firewall/iptables", []string{"-test.run=Conformance", "-packets=4000"}},
	{"nftables-long", "firewall/nftables", []string{"-test.run=" + long, "-test.skip=Conformance|Flood"}},
	{"iptables-long", "firewall/iptables", []string{"-test.run=" + long, "-test.skip=Conformance|Flood"}},
}

const (
	long = "Conformance|Flood|Kill|Oracle|OneGrant|Altered|Partial|Partly|Retry|LostSYN|TestSSH|Race|^TestReplace$|" +
		"Foreign|OtherPrograms|FamilyGone|Listing|Inserted"
	sessions = "OldSessions|HalfOpenSession|Refused"
)

// names returns the systems that the flag names, and skips the test if there
// are none.
func names(t *testing.T) []string {
	t.Helper()
	if *enabled == "" {
		t.Skip("boots virtual machines; run it with -kernels, or make kernels")
	}
	if !lab.RealRoot() {
		t.Skip("making a Debian system needs root of the whole machine")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: run scripts/install-test-tools kernels", err)
		}
	}
	return strings.Fields(*enabled)
}

// TestSuites runs the suites on each kernel, and reports how long each took, in the
// machine's own seconds and in ours.
func TestSuites(t *testing.T) {
	wanted, err := regexp.Compile("^(" + *suites + ")$")
	if err != nil {
		t.Fatal(err)
	}
	if *suites == "" {
		wanted = regexp.MustCompile("")
	}
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, name)
			dir := t.TempDir()
			script := &strings.Builder{}
			var chosen []suite
			for _, u := range all {
				if !wanted.MatchString(u.name) {
					continue
				}
				chosen = append(chosen, u)
				binary := "/suite/" + strings.ReplaceAll(u.pkg, "/", "-") + ".test"
				if _, err := os.Stat(filepath.Join(dir, filepath.Base(binary))); err != nil {
					build(t, "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, filepath.Base(binary)), "postern/internal/"+u.pkg)
				}
				fmt.Fprintf(script, "cd /suite/source/internal/%s && suite %s %s -test.v -test.timeout=2h", u.pkg, u.name, binary)
				if *only != "" {
					u.args = append(u.args[:len(u.args):len(u.args)], "-test.run="+*only)
				}
				for _, arg := range u.args {
					fmt.Fprintf(script, " '%s'", arg)
				}
				fmt.Fprintln(script)
			}
			source(t, filepath.Join(dir, "source"))
			r := &results{now: time.Now, log: t.Logf}
			if *verbose {
				r.copy = os.Stdout
			}
			boot(t, s, dir, script.String(), r)
			r.report(t, chosen)
		})
	}
}

// build runs the go command.
func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// source copies the files of the repository that the tests read.
func source(t *testing.T, dir string) {
	t.Helper()
	out, err := exec.Command("sh", "-euc", `mkdir "$1"
cd "$(git rev-parse --show-toplevel)"
git ls-files -z | xargs -0 tar -c | tar -x -C "$1"`, "sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("copy the sources: %v\n%s", err, out)
	}
}

// results reads what a machine prints: lines of init.sh, which begin with @, and
// between them the output of the suites.
type results struct {
	now  func() time.Time
	log  func(string, ...any)
	copy io.Writer

	rest  []byte // the beginning of a line
	name  string // the suite that runs
	since time.Time
	begin float64 // in the machine's seconds
	runs  map[string]*run
}

type run struct {
	code   string
	output bytes.Buffer
}

func (r *results) Write(b []byte) (int, error) {
	if r.copy != nil {
		r.copy.Write(b)
	}
	r.rest = append(r.rest, b...)
	for {
		line, rest, whole := bytes.Cut(r.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		r.line(string(line))
		r.rest = rest
	}
}

func (r *results) line(line string) {
	if r.runs == nil {
		r.runs = map[string]*run{}
	}
	var name, code string
	var at float64
	if _, err := fmt.Sscanf(line, "@up %f %s", &at, &name); err == nil {
		r.log("Linux %s after %.0f s", name, at)
	} else if _, err := fmt.Sscanf(line, "@begin %s %f", &name, &at); err == nil {
		r.name, r.since, r.begin, r.runs[name] = name, r.now(), at, new(run)
	} else if _, err := fmt.Sscanf(line, "@end %s %s %f", &name, &code, &at); err == nil {
		r.runs[name].code, r.name = code, ""
		r.log("%-22s exit %s, %4.0f of its seconds, %5.0f of ours", name, code, at-r.begin, r.now().Sub(r.since).Seconds())
	} else if r.name != "" {
		fmt.Fprintln(&r.runs[r.name].output, line)
	}
}

// ran returns how a suite ended.
func (r *results) ran(t *testing.T, u suite) *run {
	t.Helper()
	ran := r.runs[u.name]
	if ran == nil || ran.code == "" {
		t.Fatal("the machine has gone off before it ended")
	}
	return ran
}

// report makes each suite a test. One that failed has its output as the message.
func (r *results) report(t *testing.T, chosen []suite) {
	for _, u := range chosen {
		t.Run(u.name, func(t *testing.T) {
			ran := r.ran(t, u)
			out := ran.output.String()
			passed := strings.Count(out, "--- PASS")
			skipped := strings.Count(out, "--- SKIP")
			t.Logf("%d passed, %d skipped", passed, skipped)
			if ran.code != "0" {
				t.Errorf("exit code %s\n%s", ran.code, out)
			} else if passed == 0 {
				t.Errorf("no test has run\n%s", out)
			}
		})
	}
}

// TestResults: what a machine prints is read in whatever pieces it comes.
func TestResults(t *testing.T) {
	var log strings.Builder
	r := &results{
		now: func() time.Time { return time.Time{} },
		log: func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) },
	}
	for _, piece := range []string{"@up 2.4", "0 6.1.0\n@begin a 3.00\n--- PASS: T (0", "s)\n@end a 0 5.00\n@begin b 5.00\nx\n"} {
		if n, err := r.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := log.String(); got != "Linux 6.1.0 after 2 s\na                      exit 0,    2 of its seconds,     0 of ours\n" {
		t.Errorf("logged %q", got)
	}
	if a := r.runs["a"]; a.code != "0" || a.output.String() != "--- PASS: T (0s)\n" {
		t.Errorf("a: %q, %q", a.code, a.output.String())
	}
	if b := r.runs["b"]; b.code != "" || b.output.String() != "x\n" {
		t.Errorf("b, which has not ended: %q, %q", b.code, b.output.String())
	}
}
