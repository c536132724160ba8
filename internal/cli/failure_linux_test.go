package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/nftables"
	"postern/internal/lab"
)

// A refusal is a kernel that does nothing but refuse, or worse. Kernels that
// lack nftables, or that another program keeps busy, are not at hand.
type refusal struct {
	nftables.Backend
	err    error
	panics bool
}

func (refusal) Name() string                     { return "refusal" }
func (r refusal) Apply(*automaton.Machine) error { return r.refuse() }
func (r refusal) Remove() error                  { return r.refuse() }
func (r refusal) Inspect() (*firewall.Status, error) {
	return nil, r.refuse()
}

func (r refusal) refuse() error {
	if r.panics {
		var nothing *firewall.Status
		nothing.Loaded = true
	}
	return r.err
}

// run runs a command line on a kernel and returns what it said.
func run(backend firewall.Backend, args ...string) (code int, out, err string) {
	var stdout, stderr bytes.Buffer
	s := &session{
		Voice:    ui.Voice{Out: &stdout, Err: &stderr, Remarks: []ui.Remark{}},
		stdin:    strings.NewReader(""),
		backends: []firewall.Backend{backend},
	}
	code = s.run(args)
	return code, stdout.String(), stderr.String()
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"no privilege", &firewall.PermissionError{Err: unix.EPERM}, 4,
			"postern: error: no permission to read or change the firewall\n" +
				"postern: hint: run it as root, for example with sudo, or give it CAP_NET_ADMIN\n"},
		{"no nftables", &firewall.UnsupportedError{What: "nftables", Hint: "load it with `modprobe nf_tables`", Err: unix.EINVAL}, 5,
			"postern: error: this host has no nftables\n" +
				"postern: hint: load it with `modprobe nf_tables`\n"},
		{"busy", &firewall.BusyError{Err: unix.EBUSY}, 1,
			"postern: error: the kernel's firewall is busy, and nothing has changed: device or resource busy\n" +
				"postern: hint: try again; if that does not help, find out which program keeps changing the firewall\n"},
		{"no namespaces", &lab.UnavailableError{Reason: "they are off", Remedy: "turn them on", Err: unix.EPERM}, 5,
			"postern: error: this needs network namespaces, which are not available here: they are off\n" +
				"postern: hint: turn them on\n"},
		{"anything else", errors.New("something happened"), 1, "postern: error: something happened\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("STATE_DIRECTORY", t.TempDir())
			t.Setenv("RUNTIME_DIRECTORY", t.TempDir())
			for _, verb := range []string{"up", "down", "status"} {
				args := []string{verb, "-f", "../../examples/guard.yaml"}
				code, out, err := run(refusal{err: test.err}, args...)
				if code != test.code || out != "" || err != test.want {
					t.Errorf("%s: exits with %d, prints %q and says\n%swant %d and\n%s", verb, code, out, err, test.code, test.want)
				}
				code, out, err = run(refusal{err: test.err}, append(args, "--json")...)
				var answer struct {
					Error struct {
						Code    int
						Message string
						Hints   []string
					}
				}
				if e := json.Unmarshal([]byte(out), &answer); e != nil {
					t.Fatalf("%s --json: %v in %q", verb, e, out)
				}
				if code != test.code || answer.Error.Code != code || err != "" {
					t.Errorf("%s --json: exits with %d, and answers with %+v and %q", verb, code, answer, err)
				}
				if !strings.Contains(test.want, answer.Error.Message) {
					t.Errorf("%s --json: message %q", verb, answer.Error.Message)
				}
			}
		})
	}
}

// A bug in the program is told as one, in one line.
func TestPanic(t *testing.T) {
	code, out, err := run(refusal{panics: true}, "status")
	if code != ui.CodeFailed || out != "" {
		t.Errorf("exits with %d, prints %q", code, out)
	}
	if !strings.HasPrefix(err, "postern: error: this is a bug in postern: runtime error: ") ||
		!strings.Contains(err, "refusal.refuse:") || strings.Contains(err, "goroutine") {
		t.Errorf("says %q", err)
	}
}

// A kernel that runs what nobody here knows.
type occupied struct {
	refusal
	partial bool
}

func (o occupied) Inspect() (*firewall.Status, error) {
	return &firewall.Status{Loaded: true, Digest: "0123456789abcdef"}, nil
}

func (o occupied) ReadSources(st *firewall.Status) error {
	st.Partial = o.partial
	for i := range byte(100) {
		st.Progress = append(st.Progress, firewall.Progress{
			Source: netip.AddrFrom4([4]byte{10, 0, 0, i}), State: 0x00010002, Left: time.Second,
		})
	}
	return nil
}

// Programs get everything, however much it is.
func TestStatusIsWhole(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	code, out, _ := run(occupied{}, "status", "-f", "../../examples/guard.yaml", "--json")
	var answer state
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	if code != ui.CodeOtherPolicy || len(answer.Progress) != 100 || answer.Progress[99].State != "1:2" || answer.Current == nil || *answer.Current {
		t.Errorf("exits with %d, %d sources, current %v", code, len(answer.Progress), answer.Current)
	}
}

// What was not read is missing from the answer, which says so.
func TestStatusIsPartial(t *testing.T) {
	for _, partial := range []bool{false, true} {
		_, out, _ := run(occupied{partial: partial}, "status", "-f", "../../examples/guard.yaml", "--json")
		var answer state
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.Partial != partial {
			t.Errorf("partial is %v, --json says %v", partial, answer.Partial)
		}
		for _, all := range []bool{false, true} {
			args := []string{"status", "-f", "../../examples/guard.yaml"}
			if all {
				args = append(args, "--all")
			}
			_, out, _ := run(occupied{partial: partial}, args...)
			if got := strings.Contains(out, "\n"+sayPartial+"\n"); got != partial {
				t.Errorf("partial is %v, and %q says so: %v", partial, args, got)
			}
			more := ""
			switch {
			case partial && !all:
				more = "\nand at least 80 more; --all shows those that were read\n"
			case !all:
				more = "\nand 80 more; --all shows them\n"
			}
			if !strings.Contains(out, more) || all && strings.Contains(out, " more") && !partial {
				t.Errorf("partial is %v: %q prints\n%s", partial, args, out)
			}
		}
	}
}
