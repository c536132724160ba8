package sshconfig

import (
	"os/exec"
	"strings"
	"testing"
)

// ask returns what the real ssh makes of its arguments, as a map of options.
func ask(t *testing.T, args ...string) map[string]string {
	t.Helper()
	cmd := exec.Command("ssh", append([]string{"-G"}, args...)...)
	var talk strings.Builder
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ssh -G %q: %v\n%s", args, err, talk.String())
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, ok := got[key]; !ok {
			got[key] = value
		}
	}
	return got
}

func home() *Host {
	return &Host{
		Name: "home", Address: "home.example", Port: 2222, User: "ann", Command: Quote("postern", "connect", "home"), Mode: PassFD,
	}
}

// TestLine compares command lines with the real ssh: same host, same user, and
// our options before the line lead through the door.
func TestLine(t *testing.T) {
	for _, tt := range []struct{ line, user string }{
		{"home", "ann"},
		{"home uptime -p 99 -l bob", "ann"},
		{"home -- -l bob", "ann"},
		{"-- home -l bob", "ann"},
		{"-- home -J nowhere uptime", "ann"},
		{"bob@home", "bob"},
		{"bob@realm@home", "bob@realm"},
		{"-l bob home", "bob"},
		{"-lbob home", "bob"},
		{"home -l bob uptime", "bob"},
		{"-vvNlbob home", "bob"},
		{"-o User=bob home", "bob"},
		{"-oUser=bob home", "bob"},
		{"home -o user=bob", "bob"},
		{"-p 2222 -o Port=2222 home", "ann"},
		{"-i key -L 8080:localhost:80 -E log -S none -c aes128-ctr home ls -l", "ann"},
		{"-NTf -D 1080 -e none -m hmac-sha2-256 -R 1:a:2 -w 0:0 -O check -I none home", "ann"},
		{"-4o AddressFamily=any home", "ann"}, // rejected, but parsed
	} {
		words := strings.Fields(tt.line)
		line, err := ParseCommandLine(words)
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		got := ask(t, append(append([]string{"-F", "none"}, home().Arguments(line)...), words...)...)
		for key, want := range map[string]string{
			"host": line.Host(), "user": tt.user, "hostname": "home.example", "port": "2222",
			"proxycommand": "postern connect home", "proxyusefdpass": "yes",
		} {
			if got[key] != want {
				t.Errorf("%s: ssh has %s %q, want %q", tt.line, key, got[key], want)
			}
		}
		if line.Host() != "home" {
			t.Errorf("%s: leads to %q", tt.line, line.Host())
		}
	}
}

func TestLineWithoutHost(t *testing.T) {
	for _, line := range []string{"", "-V", "-v -p", "-l home", "-o", "--", "-vo User=bob"} {
		if l, err := ParseCommandLine(strings.Fields(line)); err != nil || l.Destination != "" {
			t.Errorf("%q: %+v, %v", line, l, err)
		}
	}
	if _, err := ParseCommandLine([]string{"--json", "home"}); err == nil || err.Error() != `ssh has no option "--json"` {
		t.Errorf("--json: %v", err)
	}
}

// TestConflict finds options that bypass the door, wherever they are, but none
// in the remote command.
func TestConflict(t *testing.T) {
	for _, tt := range []struct {
		line    string
		written string // of the conflict; "" for none
		kind    ConflictKind
	}{
		{"home", "", 0},
		{"-p 2222 -o hostname=home.example -o AddressFamily=any home", "", 0},
		{"home ssh -J other -p 22 elsewhere", "", 0},
		{"home -- -J other", "", 0},
		{"-J other home", "-J", OtherProxy},
		{"home -J other", "-J", OtherProxy},
		{"-vJother home", "-J", OtherProxy},
		{"-o ProxyJump=other home", "-o ProxyJump", OtherProxy},
		{"-oproxycommand=nc home", "-o proxycommand", OtherProxy},
		{"-o ProxyUseFdpass=no home", "-o ProxyUseFdpass", OtherProxy},
		{"-p 22 home", "-p", OtherDestination},
		{"-oPort=22 home", "-o Port", OtherDestination},
		{"-o HostName=other home", "-o HostName", OtherDestination},
		{"-4 home", "-4", OtherDestination},
		{"-v6 home", "-6", OtherDestination},
		{"-b 192.0.2.9 home", "-b", OtherSource},
		{"-B eth0 home", "-B", OtherSource},
	} {
		l, err := ParseCommandLine(strings.Fields(tt.line))
		if err != nil {
			t.Fatal(err)
		}
		switch c := home().Conflict(l); {
		case c == nil && tt.written != "":
			t.Errorf("%s: no clash", tt.line)
		case c != nil && (c.Option.Written != tt.written || c.Kind != tt.kind):
			t.Errorf("%s: %+v", tt.line, c)
		}
	}
	l, err := ParseCommandLine([]string{"-o", "  Port = 22", "home"}) // as ssh parses it
	if c := home().Conflict(l); err != nil || c == nil || c.Option.Value != "22" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestVerbose(t *testing.T) {
	for line, want := range map[string]bool{"home": false, "-v home": true, "-Nvv home": true, "home ls -v": false, "home -v": true} {
		if l, err := ParseCommandLine(strings.Fields(line)); err != nil || l.Verbose() != want {
			t.Errorf("%s: %v, want %v (%v)", line, l.Verbose(), want, err)
		}
	}
}

func TestAsks(t *testing.T) {
	for line, want := range map[string]bool{
		"-V": true, "-vV": true, "-Q cipher": true, "-Qmac": true, "-V home": true,
		"home": false, "-v home": false, "-q home": false, "home ls -V": false, "-i -V home": false, "": false,
	} {
		if l, err := ParseCommandLine(strings.Fields(line)); err != nil || l.IsQuery() != want {
			t.Errorf("%s: %v, want %v (%v)", line, l.IsQuery(), want, err)
		}
	}
}
