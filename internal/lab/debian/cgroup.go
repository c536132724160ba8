//go:build linux

package debian

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroups makes a group of that name below this process's own, in each hierarchy
// that systemd uses, and returns their directories. nspawn would put the machine below the
// group that it is started in, where two machines would be one.
func cgroups(name string) ([]string, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(string(own)) { // "9:name=systemd:/path", "0::/path"
		field := strings.SplitN(strings.TrimSpace(line), ":", 3)
		mount, used := mounts[field[1]]
		if !used {
			continue
		}
		parent := filepath.Join(mount, field[2])
		removeStale(parent)
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		return nil, errors.New("no cgroup hierarchy that systemd uses is mounted")
	}
	return dirs, nil
}

// cgroupMounts returns where the hierarchies are mounted that systemd uses:
// version 2 by the name "", and version 1 by "name=systemd".
func cgroupMounts() (map[string]string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Fields(lines.Text()) // device, directory, type, options
		switch {
		case field[2] == "cgroup2":
			found[""] = field[1]
		case field[2] == "cgroup" && slices.Contains(strings.Split(field[3], ","), "name=systemd"):
			found["name=systemd"] = field[1]
		}
	}
	return found, lines.Err()
}

// removeStale removes groups that killed runs have left. Those of a process that
// is there may be about to be used.
func removeStale(parent string) {
	old, _ := filepath.Glob(filepath.Join(parent, groupName("*", "*")))
	for _, dir := range old {
		var pid, n int
		fmt.Sscanf(filepath.Base(dir), groupName("%d", "%d"), &pid, &n)
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
			removeGroup(dir)
		}
	}
}

func groupName(pid, n any) string { return fmt.Sprintf("postern-debian-%v-%v", pid, n) }

// removeGroup removes a group and those below it, as far as they are empty.
func removeGroup(dir string) error {
	var all []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	var last error
	for _, path := range slices.Backward(all) {
		last = os.Remove(path)
	}
	return last
}
