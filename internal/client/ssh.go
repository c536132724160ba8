package client

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"postern/internal/hosts"
	"postern/internal/policy"
	"postern/internal/sshconfig"
)

// A NoSSHError reports that no ssh program was found.
type NoSSHError struct{ Err error }

func (e *NoSSHError) Error() string   { return "no ssh program found" }
func (e *NoSSHError) Unwrap() error   { return e.Err }
func (e *NoSSHError) Hints() []string { return []string{installSSH(runtime.GOOS)} }

// installSSH is how a system gets OpenSSH's client.
func installSSH(system string) string {
	switch system {
	case "windows":
		return "install OpenSSH's client: in Settings, under optional features, \"OpenSSH Client\""
	case "darwin", "freebsd":
		return "ssh is part of this system, in /usr/bin: add that to PATH"
	}
	return "install OpenSSH's client: the package is openssh-client, openssh-clients or openssh, depending on the distribution"
}

// A RunError reports that another program cannot be run.
type RunError struct {
	Program string
	Err     error
}

func (e *RunError) Error() string { return fmt.Sprintf("cannot run \"%s\": %v", e.Program, e.Err) }
func (e *RunError) Unwrap() error { return e.Err }

// RunSSH runs ssh in place of this process. It returns only if that fails, and on
// Windows, where a process cannot become another one: then the error is ssh's
// *exec.ExitError, or nil.
func RunSSH(args []string) error {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return &NoSSHError{err}
	}
	return become(program, append([]string{"ssh"}, args...))
}

// ThroughDoor returns how ssh connects to a host: by this program, with flags of its
// verb connect.
func ThroughDoor(h *hosts.Host, flags ...string) (*sshconfig.Host, error) {
	if h.Service.Protocol != policy.TCP {
		return nil, &NotTCPError{h}
	}
	way := &sshconfig.Host{Name: h.Name, Address: h.Address, Port: h.Service.Number, User: h.User}
	words := append([]string{ownName(), "connect", h.Name}, flags...)
	if CanPass {
		way.Mode = sshconfig.PassFD
		words = append(words, "--fdpass")
	}
	way.Command = sshconfig.Quote(words...)
	return way, nil
}

// ownName is what to call this very program. Where PATH leads to it, the word alone
// is best, as it stays right if the program moves. Otherwise the path that it was
// called by is better than where links lead from there: that may be a folder named
// after a version. Some of Windows' ssh do not search PATH.
func ownName() string {
	own, err := os.Executable()
	if err != nil {
		return "postern"
	}
	name := "postern"
	if found, err := exec.LookPath(name); err == nil && runtime.GOOS != "windows" && sameFile(found, own) {
		return name
	}
	if called, err := filepath.Abs(os.Args[0]); err == nil && strings.ContainsRune(os.Args[0], filepath.Separator) && sameFile(called, own) {
		return called
	}
	return own
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
