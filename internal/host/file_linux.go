package host

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OthersMay returns who else may read and change a file, in words that begin a
// sentence ("everyone", "group adm", "user ann"), and by which path: the file, or a
// directory in which it could be replaced. What is no plain file has no others.
//
// Nobody else are root, the calling user, and the user who called sudo.
func OthersMay(file string) (read, change Other, err error) {
	path, err := filepath.EvalSymlinks(file)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return read, change, fmt.Errorf("looking at %s: %w", file, err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return read, change, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return read, change, nil
	}
	trusted := trustedUsers()
	if stat.Mode&unix.S_IROTH != 0 {
		read = Other{"everyone", file}
	}
	change = changes(file, &stat, trusted)
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if err := unix.Stat(dir, &stat); err != nil {
			return read, change, &os.PathError{Op: "stat", Path: dir, Err: err}
		}
		if stat.Mode&unix.S_IXOTH == 0 { // they do not get any further
			read = Other{}
			if strings.HasPrefix(change.Who, "everyone") {
				change = Other{}
			}
		}
		// In a sticky directory nobody replaces the files of others.
		if o := changes(dir, &stat, trusted); o.Who != "" && change.Who == "" && stat.Mode&unix.S_ISVTX == 0 {
			change = o
		}
		if dir == filepath.Dir(dir) {
			return read, change, nil
		}
	}
}

// changes returns who else may change a file, or what is in a directory.
func changes(path string, stat *unix.Stat_t, trusted []uint32) Other {
	switch {
	case stat.Mode&unix.S_IWOTH != 0:
		return Other{"everyone", path}
	case !slices.Contains(trusted, stat.Uid):
		return Other{"user " + userName(stat.Uid), path}
	case stat.Mode&unix.S_IWGRP != 0 && stat.Gid != 0 && int(stat.Gid) != os.Getegid() && !ownGroup(stat):
		return Other{"group " + groupName(stat.Gid), path}
	}
	return Other{}
}

// trustedUsers are those who may change rules, or who have just become root.
func trustedUsers() []uint32 {
	trusted := []uint32{0, uint32(os.Geteuid())}
	if id, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil {
		trusted = append(trusted, uint32(id))
	}
	// Whom a user namespace does not know, real root among them.
	if text, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil && inUserNamespace() {
		if id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err == nil {
			trusted = append(trusted, uint32(id))
		}
	}
	return trusted
}

// inUserNamespace reports whether some users are unknown here.
func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}

// ownGroup reports whether a file's group is that of its owner alone, by the custom
// that both have one number.
func ownGroup(stat *unix.Stat_t) bool { return stat.Gid == stat.Uid }

func userName(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if u, err := user.LookupId(text); err == nil {
		return u.Username
	}
	return text
}

func groupName(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if g, err := user.LookupGroupId(text); err == nil {
		return g.Name
	}
	return text
}
