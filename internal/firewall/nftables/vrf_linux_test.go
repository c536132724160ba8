package nftables

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTryingLeavesNoNamespace: whether rules see addresses in a VRF is tried elsewhere than on
// the main thread, which would stay in the namespace that was made for it, and with it, to
// others, the process. Other tests take the main thread of this one, so there is another.
func TestTryingLeavesNoNamespace(t *testing.T) {
	const alone = "POSTERN_TEST_ALONE"
	if os.Getenv(alone) == "" {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 { // the first or second one was on the main thread
		if _, err := findsInVRF(); errors.Is(err, unix.EPERM) { // other errors are of a kernel without VRFs
			t.Fatal(err)
		}
		if after, err := os.Readlink("/proc/self/ns/net"); after != before {
			t.Fatalf("after %d the process is in %s, before it was in %s (%v)", n+1, after, before, err)
		}
	}
}
