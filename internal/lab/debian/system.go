//go:build linux

package debian

import (
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Variant is a Debian system with another firewall installed, though not
// enabled. They are systems of their own because Debian's packages conflict.
type Variant string

const (
	Plain              Variant = "plain" // nftables.service is there, and not enabled
	UFW                Variant = "ufw"
	Firewalld          Variant = "firewalld"
	IptablesPersistent Variant = "iptables-persistent" // with netfilter-persistent.service
	Docker             Variant = "docker.io"           // enabled, as its package leaves it

	// Debian 13, as it is installed.
	Trixie Variant = "trixie"
)

// base.sh makes the system that all variants share, variant.sh adds packages to it.
var (
	//go:embed base.sh
	baseScript string
	//go:embed variant.sh
	variantScript string
)

// layers returns the directories that make up a variant's system, the uppermost
// first, and makes what is not in the cache.
func (v Variant) layers() ([]string, error) {
	// Systems made by other scripts are other systems.
	dir, unlock, err := Cache("debian", baseScript+variantScript)
	if err != nil {
		return nil, err
	}
	defer unlock()
	suite := "bookworm"
	if v == Trixie {
		suite = "trixie"
	}
	base := filepath.Join(dir, suite)
	if err := Build(base, baseScript, suite); err != nil || v == Plain || v == Trixie {
		return []string{base}, err
	}
	top := filepath.Join(dir, string(v))
	return []string{top, base}, Build(top, variantScript, base, string(v))
}

// Cache returns a directory of the user's cache for what scripts make, one that no
// other scripts have. Until unlock is called no other process gets it: tests of
// several packages run at once.
func Cache(name, scripts string) (dir string, unlock func() error, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil, err
	}
	digest := sha256.Sum256([]byte(scripts))
	dir = filepath.Join(cache, "postern", fmt.Sprintf("%s-%x", name, digest[:4]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return "", nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		lock.Close()
		return "", nil, err
	}
	return dir, lock.Close, nil
}

// Build makes a directory by a script, which gets it as its first argument, unless it
// is there already. A directory has its name only once it is whole. The script has
// mounts and a PID namespace of its own.
func Build(dir, script string, args ...string) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o755)); err != nil {
		return err
	}
	cmd := exec.Command("sh", append([]string{"-euc", script, "sh", part}, args...)...)
	// What it mounts and starts ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Cloneflags: unix.CLONE_NEWPID}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the system %s: %w\n%s", strings.Join(append(args, filepath.Base(dir)), " "), err, out)
	}
	return os.Rename(part, dir)
}
