package iptables

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// listDirs are where the kernel shows lists and budgets, of the calling thread's
// namespace, and to everybody: xt_recent makes files with mode 0644 (its parameter
// ip_list_perms, which is read-only once it is loaded), xt_hashlimit with 0444.
var listDirs = []string{
	recentDir,
	"/proc/thread-self/net/ipt_hashlimit",
	"/proc/thread-self/net/ip6t_hashlimit",
}

// closeLists lets root alone read who has come how far. The modes of the directories
// hold for lists that are made later, those of others, too, as long as the modules stay
// loaded. A process that was inside a directory before still gets at the files, so
// those of ours are closed as well. What is not there yet is no error.
func closeLists() error {
	var failed error
	chmod := func(name string, mode fs.FileMode) {
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&^mode != 0 {
			err = os.Chmod(name, mode&info.Mode().Perm())
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && failed == nil {
			failed = err
		}
	}
	for _, dir := range listDirs {
		chmod(dir, 0o500)
		ours, _ := filepath.Glob(filepath.Join(dir, prefix[:len(prefix)-1]+"*")) // the budget's has no hyphen
		for _, name := range ours {
			chmod(name, 0o600)
		}
	}
	return failed
}
