package demo

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"postern/internal/lab"
)

func TestMain(m *testing.M) {
	lab.Main(func() int {
		flag.Parse()
		flag.Set("test.parallel", "6") // a story waits more than it works
		return m.Run()
	})
}

// The whole story holds, and can be read both in a file and on a terminal of 80
// columns.
func TestStory(t *testing.T) {
	t.Parallel()
	for name, paced := range map[string]bool{"piped": false, "paced": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			report, err := Run(t.Context(), &Screen{Out: &out, Paced: paced}, Policy())
			if err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			if !report.OK || len(report.Steps) != 11 || report.Note != Note {
				t.Errorf("got %+v", report)
			}
			for _, s := range report.Steps {
				if !s.OK || len(s.Claims) == 0 {
					t.Errorf("step %q: got %+v", s.Title, s)
				}
			}
			text := out.String()
			if !strings.Contains(strings.Join(strings.Fields(text), " "), Note) {
				t.Errorf("it does not say that %s", Note)
			}
			if strings.Contains(text, "\x1b") || !paced && strings.Contains(text, "\r") {
				t.Error("there are control characters in it")
			}
			for screen := range strings.SplitSeq(text, "\n[") {
				if n := strings.Count(screen, "\n"); n > 24 {
					t.Errorf("%d lines are more than a screen:\n%s", n, screen)
				}
			}
			for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
				if utf8.RuneCountInString(line) > Width {
					t.Errorf("a line is too long: %s", line)
				}
			}
		})
	}
}

// The demo notices each promise that a policy can break.
func TestNotices(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, old, new string
		step           int // the first step that must fail
	}{
		{"the service needs no knock", "posture: closed\n", "posture: closed\nallow: [{service: tcp/22}]\n", 2},
		{"the door needs no knock", "posture: closed\n", "posture: closed\nallow: [{service: tcp/8443}]\n", 2},
		{"another port answers", "posture: closed\n", "posture: guard\n", 2},
		{"what is hidden answers", "cover: drop\n", "cover: reset\n", 2},
		{"the wrong order is the right one", "[1234, 2345, 3456]", "[1234, 3456, 2345]", 3},
		{"another sequence", "[1234, 2345, 3456]", "[1234, 2345, 3457]", 4},
		{"too much time between knocks", "step_timeout: 3s", "step_timeout: 30s", 4},
		{"a grant for everybody", "log:\n", "source: {ipv4: 1}\nlog:\n", 3},
		{"too long a grant", "    open_for: 10s\n\n    #", "    open_for: 20s\n\n    #", 4},
		{"too short a grant", "    open_for: 10s\n\n    #", "    open_for: 7s\n\n    #", 10},
		{"a grant for many connections", "admit: one\n", "admit: any\n", 5},
		{"Ann alone may knock", "admit: one\n", "admit: one\n    from: [192.0.2.0/24, \"2001:db8:a::/64\"]\n", 7},
		{"a door to nowhere", "10.0.0.2:443", "10.0.0.2:444", 8},
		{"a door that hides who comes", "10.0.0.2:443\n", "10.0.0.2:443\n    masquerade: true\n", 8},
		{"a key for others", "key: [ann]}", "key: [ann]}, from: [198.51.100.0/24]", 11},
		{"IPv4 alone", "service: tcp/22\n", "service: tcp/22\n    address: 192.0.2.1\n", 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			document := strings.Replace(Policy(), test.old, test.new, 1)
			if document == Policy() {
				t.Fatalf("%q is not in the policy", test.old)
			}
			var out bytes.Buffer
			report, err := Run(t.Context(), &Screen{Out: &out}, document)
			var failed *FailedError
			if !errors.As(err, &failed) || report == nil || report.OK || failed.Report != report {
				t.Fatalf("got %v\n%s", err, &out)
			}
			if last := len(report.Steps); last != test.step || report.Steps[last-1].OK {
				t.Errorf("ended with step %d, want %d\n%s", last, test.step, &out)
			}
			if !strings.Contains(out.String(), "FAILED") || !strings.Contains(err.Error(), "in step "+strconv.Itoa(test.step)+":") {
				t.Errorf("it does not say so: %v\n%s", err, &out)
			}
		})
	}
}

// A connection survives only if it still echoes what is sent.
func TestAsk(t *testing.T) {
	if got, ok := (*call)(nil).ask("x"); ok {
		t.Errorf("nobody answered %q", got)
	}
	for answer, want := range map[string]bool{echo + "x\r\n": true, echo + "y\r\n": false, "": false} {
		here, there := net.Pipe()
		go func() {
			io.ReadFull(there, make([]byte, len("x\r\n")))
			io.WriteString(there, answer)
			there.Close()
		}()
		c := newCall(here)
		if got, ok := c.ask("x"); ok != want {
			t.Errorf("told %q: got %q, %v", answer, got, ok)
		}
		c.close()
	}
}

// The demo ends when its context does, in any step.
func TestEnds(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"Knocking means", "[4/11]", "Waiting for"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &trigger{at: after, then: cancel}
			report, err := Run(ctx, &Screen{Out: out}, Policy())
			if !errors.Is(err, context.Canceled) || report != nil {
				t.Errorf("got %v and %+v", err, report)
			}
			if strings.Contains(out.text.String(), "FAILED") {
				t.Errorf("it blames the policy:\n%s", &out.text)
			}
		})
	}
}

// A trigger calls a function when a text has been written to it.
type trigger struct {
	at   string
	then func()
	text bytes.Buffer
}

func (w *trigger) Write(b []byte) (int, error) {
	w.text.Write(b)
	if bytes.Contains(b, []byte(w.at)) {
		w.then()
	}
	return len(b), nil
}
