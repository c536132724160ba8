//go:build linux

package kernels

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

//go:embed init.sh
var initScript string

var tools = []string{"qemu-system-x86_64", "debootstrap", "busybox"}

// boot runs a shell script in a virtual machine of a system, as root and as what follows its
// first process. What it prints goes to out as it comes. The machine has the files below the
// directory in /suite. It ends the test if the kernel does not get as far as init.sh, or
// dies.
func boot(t *testing.T, s *system, dir, script string, out io.Writer) {
	t.Helper()
	tmp := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "run"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	initrd, console := filepath.Join(tmp, "initrd"), filepath.Join(tmp, "console")
	// The kernel unpacks archives one after the other.
	pack := exec.Command("sh", "-euc", `cat "$1" "$2" >"$3"
mkdir "$4/top"
cp "$5" "$4/top/init"
ln -s "$6" "$4/top/suite"
cd "$4/top"
{ echo init; find suite/; } | busybox cpio -o -H newc -L >>"$3"`, "sh",
		s.rootIn, s.modules, initrd, tmp, filepath.Join(tmp, "init.sh"), dir)
	if err := os.WriteFile(filepath.Join(tmp, "init.sh"), []byte(initScript), 0o755); err != nil {
		t.Fatal(err)
	}
	if said, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("pack what the machine has: %v\n%s", err, said)
	}
	args := []string{"-n", "15", "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot",
		"-smp", "1", "-m", fmt.Sprint(*memory), "-kernel", s.kernel, "-initrd", initrd,
		"-serial", "file:" + console, "-serial", "stdio",
		// No workarounds for processors that leak: they cost time, and there is no one to leak to.
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init"}
	if *kvm {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		// A nanosecond an instruction; waiting takes no time. See the comment of the package.
		args = append(args, "-accel", "tcg", "-cpu", "qemu64", "-icount", "shift=0,sleep=off")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	qemu := exec.CommandContext(ctx, "nice", args...)
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	booted := &watch{w: out}
	qemu.Stdout, qemu.Stderr = booted, booted
	err := qemu.Run()
	if err != nil || !booted.seen {
		said, _ := os.ReadFile(console)
		t.Fatalf("qemu: %v; the console says:\n%s", err, said[max(0, len(said)-4000):])
	}
}

// watch passes on what is written, and notes whether the first process has said
// anything.
type watch struct {
	w    io.Writer
	seen bool
}

func (w *watch) Write(b []byte) (int, error) {
	w.seen = true
	return w.w.Write(b)
}
