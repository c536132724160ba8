//go:build unix

package keyfile

import (
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// foreign reports whether a file belongs to anybody but root, the calling user and the
// user who called sudo.
func foreign(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 || int(stat.Uid) == os.Geteuid() {
		return false
	}
	return os.Getenv("SUDO_UID") != strconv.Itoa(int(stat.Uid))
}
