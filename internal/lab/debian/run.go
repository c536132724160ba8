//go:build linux

package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Try runs a command line in the machine, by sh, as root, and returns what it printed
// on both outputs. Its parent is nobody in the machine, as if it had been given at the
// console: it is not a network log-in.
func (m *Machine) Try(line string) (string, error) {
	out, err := m.Command(line).CombinedOutput()
	return string(out), err
}

// Run runs a command line as Try does, and ends the test if it fails.
func (m *Machine) Run(line string) string {
	m.t.Helper()
	out, err := m.Try(line)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// Status runs a command line as Try does, and returns its exit code too.
func (m *Machine) Status(line string) (string, int) {
	m.t.Helper()
	out, err := m.Try(line)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("%s: %v", line, err)
	}
	if exit != nil {
		return out, exit.ExitCode()
	}
	return out, 0
}

// Command returns a command that runs a line in the machine, for a caller that wants
// to start it, feed it or kill it. What it runs ends with the machine at the latest.
func (m *Machine) Command(line string) *exec.Cmd {
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(m.process), "--all", "sh", "-c", line)
	cmd.Env = []string{"HOME=/root", "USER=root", "TERM=dumb", "LANG=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

// Write writes a file of the machine, and the directories that it needs. It may be on
// or off.
func (m *Machine) Write(path, content string, mode fs.FileMode) {
	m.t.Helper()
	m.put(path, strings.NewReader(content), mode)
}

// Install copies a file into the machine.
func (m *Machine) Install(from, path string, mode fs.FileMode) {
	m.t.Helper()
	f, err := os.Open(from)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	m.put(path, f, mode)
}

func (m *Machine) put(path string, content io.Reader, mode fs.FileMode) {
	m.t.Helper()
	root := m.root()
	if err := m.directory(root, filepath.Dir(path)); err != nil {
		m.t.Fatal(err)
	}
	// Another file, and not the old one with other content: a program may be running from it.
	name := filepath.Join(root, path)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Chmod(mode), f.Close(), os.Rename(name+".new", name)); err != nil {
		m.t.Fatal(err)
	}
}

// root returns where files of the machine are written: while it is off, its own
// layer of the disk, which is nowhere mounted then.
func (m *Machine) root() string {
	if m.process != 0 {
		return fmt.Sprintf("/proc/%d/root", m.process)
	}
	return filepath.Join(m.disk, "root")
}

// directory makes a directory and those above it. One that a lower layer has is
// made with the same mode, as the upper one's is the one that counts.
func (m *Machine) directory(root, path string) error {
	name := filepath.Join(root, path)
	if _, err := os.Stat(name); err == nil || path == "/" {
		return err
	}
	if err := m.directory(root, filepath.Dir(path)); err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	for _, layer := range m.layers {
		if info, err := os.Stat(filepath.Join(layer, path)); err == nil {
			mode = info.Mode()
			break
		}
	}
	return errors.Join(os.Mkdir(name, mode.Perm()), os.Chmod(name, mode))
}

// Journal returns what journalctl prints of the machine's journal, of all its boots.
// The machine may be on or off.
func (m *Machine) Journal(args ...string) string {
	dirs, _ := filepath.Glob(filepath.Join(m.disk, "root/var/log/journal/*"))
	var all bytes.Buffer
	for _, dir := range dirs {
		out, err := exec.Command("journalctl", append([]string{"--no-pager", "--directory", dir}, args...)...).CombinedOutput()
		all.Write(out)
		if err != nil {
			fmt.Fprintln(&all, err)
		}
	}
	return all.String()
}

// Failed returns the units that have failed, as systemctl lists them, or "".
func (m *Machine) Failed() string {
	m.t.Helper()
	return m.Run("systemctl list-units --state=failed --no-legend --plain --full")
}

// Postern builds the program at a path, unless it is there already.
func Postern(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	out, err := exec.Command("go", "build", "-trimpath", "-o", path, "postern/cmd/postern").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}
