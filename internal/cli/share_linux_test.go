package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"postern/internal/cli/ui"
	"postern/internal/firewall/backends"
	"postern/internal/key"
)

// TestDrawing looks at a drawing as a phone does: there are the three corners by
// which it finds a code, and the quiet zone around it, as dark on light.
func TestDrawing(t *testing.T) {
	lines := drawing("postern://home.example:22/v1/name=ssh/knock=20914,7061:udp,41230/", usualQuiet)
	var light [][]bool
	for _, line := range lines {
		var upper, lower []bool
		for _, r := range line {
			upper = append(upper, r == '█' || r == '▀')
			lower = append(lower, r == '█' || r == '▄')
			if !strings.ContainsRune("█▀▄ ", r) {
				t.Fatalf("%q in %q", r, line)
			}
		}
		light = append(light, upper, lower)
	}
	const quiet = usualQuiet
	size := len(light[0]) - 2*quiet
	if size < 21 || (size-17)%4 != 0 || len(light) < size+2*quiet-1 {
		t.Fatalf("%d wide, %d high", len(light[0]), len(light))
	}
	for y, row := range light[:size+quiet] {
		if len(row) != size+2*quiet {
			t.Fatalf("row %d is %d wide", y, len(row))
		}
		for x, is := range row {
			if (y < quiet || x < quiet || x >= quiet+size) && !is {
				t.Errorf("the quiet zone is dark at %d,%d", x, y)
			}
		}
	}
	finder := func(left, top int) {
		for y := range 7 {
			for x := range 7 {
				ring := min(x, y, 6-x, 6-y) // the second ring of four is light
				if got := light[quiet+top+y][quiet+left+x]; got != (ring == 1) {
					t.Fatalf("no corner at %d,%d", left, top)
				}
			}
		}
	}
	finder(0, 0)
	finder(size-7, 0)
	finder(0, size-7)
}

// TestFitting: a code fits on a screen of 80x24 with a prompt below it, for a link as long
// as most are, and is not drawn where it does not.
func TestFitting(t *testing.T) {
	link := func(length int) string {
		const start, end = "postern://", ":22/v1/name=ssh/knock=20914,7061:udp,41230/"
		return start + strings.Repeat("h", length-len(start)-len(end)) + end
	}
	for length, want := range map[int]struct{ columns, lines int }{
		66: {41, 21}, 78: {41, 21}, 106: {45, 23}, 134: {45, 23}, 135: {}, 250: {},
	} {
		lines := fitting(link(length), 80, 24)
		if len(lines) != want.lines || want.lines > 0 && utf8.RuneCountInString(lines[0]) != want.columns {
			t.Errorf("a link of %d bytes takes %d lines, want %+v", length, len(lines), want)
		}
	}
	if lines := fitting(link(66), 40, 24); len(lines) == 0 || utf8.RuneCountInString(lines[0]) > 40 {
		t.Error("it does not fit on 40 columns")
	}
	if fitting(link(66), 30, 24) != nil {
		t.Error("it fits on 30 columns")
	}
	// A link with a key is longer: it takes a few rows more.
	k := key.Credential{}.Encode()
	if fitting("postern://server.example.com:22/v2/name=ssh/key="+k+"/token=40123/check=AAAAAA/", 80, 27) == nil {
		t.Error("a link with a key does not fit on 27 rows")
	}
}

// TestQRAtTerminal: the code is drawn where a person sees it, and not where the
// link goes on to another program.
func TestQRAtTerminal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nposture: closed\ndoors: {ssh: {service: 22, knock: {sequence: [1234, 2345, 3456]}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	for _, test := range []struct {
		piped bool
		rows  uint16 // of the screen; 0 is not known
		args  []string
		drawn bool
	}{
		{false, 0, nil, true},
		{false, 0, []string{"--qr=false"}, false},
		{true, 0, nil, false},
		{true, 0, []string{"--qr"}, true},
		{false, 24, nil, true},
		{false, 20, nil, false}, // the code alone would fit
		{false, 20, []string{"--qr"}, true},
	} {
		screen, terminal := newTerminal(t)
		if test.rows != 0 {
			if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: test.rows, Col: 80}); err != nil {
				t.Fatal(err)
			}
		}
		out := terminal
		if test.piped {
			out, _ = os.Create(filepath.Join(t.TempDir(), "out"))
		}
		s := &session{Voice: ui.NewVoice(out, terminal), backends: backends.All()}
		if code := s.run(append([]string{"share", "-f", file, "--host", "home.example"}, test.args...)); code != ui.CodeDone {
			t.Fatalf("exit code %d", code)
		}
		fmt.Fprint(terminal, "\x04")
		var seen strings.Builder
		for b := make([]byte, 4096); !strings.Contains(seen.String(), "\x04"); {
			n, err := screen.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			seen.Write(b[:n])
		}
		if drawn := strings.Contains(seen.String(), ui.WhiteOnBlack); drawn != test.drawn {
			t.Errorf("piped %v, %q: drawn %v\n%s", test.piped, test.args, drawn, seen.String())
		}
		if strings.Contains(seen.String(), "postern://home.example") == test.piped {
			t.Errorf("piped %v: the terminal shows %s", test.piped, seen.String())
		}
		// Where another program files the link, to say how is to say it twice.
		if strings.Contains(seen.String(), "save it on the client") == test.piped {
			t.Errorf("piped %v: the hints are %s", test.piped, seen.String())
		}
	}
}

// newTerminal makes a terminal, and returns what its screen would show.
func newTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}
