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
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	// Systems made by other scripts are other systems.
	digest := sha256.Sum256([]byte(baseScript + variantScript))
	dir := filepath.Join(cache, "postern", fmt.Sprintf("debian-%x", digest[:4]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.Create(filepath.Join(dir, "lock")) // tests of several packages run at once
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	suite := "bookworm"
	if v == Trixie {
		suite = "trixie"
	}
	base := filepath.Join(dir, suite)
	if err := build(base, baseScript, suite); err != nil || v == Plain || v == Trixie {
		return []string{base}, err
	}
	top := filepath.Join(dir, string(v))
	return []string{top, base}, build(top, variantScript, base, string(v))
}

// build makes a directory by a script, which gets it as its first argument, unless it
// is there already. A directory has its name only once it is whole.
func build(dir, script string, args ...string) error {
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
