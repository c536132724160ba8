package change

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFirstNamespace: a process knows whether its network namespace is that of process 1
// also with fewer capabilities than that, as in the units' sandbox.
func TestFirstNamespace(t *testing.T) {
	const asked = "POSTERN_TEST_FIRST_NAMESPACE"
	if os.Getenv(asked) != "" {
		fmt.Println("first:", inFirstNamespace())
		return
	}
	if os.Getuid() != 0 {
		t.Skip("a PID namespace needs root")
	}
	// Process 1 is sh, which keeps its capabilities.
	const script = `mount -t proc proc /proc; for in in "" "unshare --net"; do
		$in setpriv --bounding-set=-all --inh-caps=-all "$0" -test.run '^TestFirstNamespace$'; done`
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script, self)
	cmd.Env = append(os.Environ(), asked+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Cloneflags: unix.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		if rest, is := strings.CutPrefix(line, "first: "); is {
			got = append(got, strings.TrimSpace(rest))
		}
	}
	if fmt.Sprint(got) != "[true false]" {
		t.Errorf("in the namespace of process 1, and in another one: %v\n%s", got, out)
	}
}
