package secrecy

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// helping says in the environment that the process is the test's helper.
const helping = "TEST_SECRECY"

// TestMain: the helper says what the kernel shows of it.
func TestMain(m *testing.M) {
	if os.Getenv(helping) == "" {
		os.Exit(m.Run())
	}
	own := Arguments(os.Args[1:], "knock")
	NoDump()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	shown, readErr := os.ReadFile("/proc/self/cmdline")
	if err != nil || dumpable != 0 || readErr != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString(strings.Join(own, " ") + "\n" + strings.ReplaceAll(string(shown), "\x00", " "))
}

// TestArguments: the program has its arguments, and others do not see the knocks.
func TestArguments(t *testing.T) {
	for args, hidden := range map[string]string{
		"knock server.example 47011 udp/5120 --gap=12ms":                                              "knock server.example ***** udp/**** --gap=**ms",
		"--json knock home postern://home.example:22/v2/name=a/key=AbC-_d9/token=40123/check=aB_/ -q": "--json knock home postern://home.example:**/v*/name=a/key=****************************** -q",
		"ssh ann@10.0.0.1 -p 22": "ssh ann@10.0.0.1 -p 22",
	} {
		own, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(own, strings.Fields(args)...)
		c.Env = append(os.Environ(), helping+"=1")
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		got, shown, _ := strings.Cut(string(out), "\n")
		if got != args {
			t.Errorf("%q: the program has %q", args, got)
		}
		if !strings.HasSuffix(strings.TrimSpace(shown), hidden) {
			t.Errorf("%q: others see %q", args, shown)
		}
	}
}
