package host_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/host"
)

func TestOthersMay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	root := t.TempDir() // within one that only its user enters
	for p := root; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const ann, adm = 4711, 4712
	for _, test := range []struct {
		name      string
		dir, file os.FileMode
		owner     int // of the file
		group     int
		sudo      string // SUDO_UID
		want      string
	}{
		{"root's alone", 0o700, 0o600, 0, 0, "", ""},
		{"in a directory of root's", 0o700, 0o666, 0, 0, "", ""},
		{"readable", 0o755, 0o644, 0, 0, "", "everyone reads file"},
		{"readable by a group", 0o755, 0o640, 0, adm, "", ""},
		{"writable", 0o755, 0o666, 0, 0, "", "everyone reads file, everyone changes file"},
		{"writable by a group", 0o755, 0o660, 0, adm, "", "group 4712 changes file"},
		{"another owner", 0o755, 0o600, ann, ann, "", "user 4711 changes file"},
		{"the user of sudo", 0o755, 0o660, ann, ann, "4711", ""},
		{"in a writable directory", 0o777, 0o600, 0, 0, "", "everyone changes dir"},
		{"in a sticky one", 0o777 | os.ModeSticky, 0o600, 0, 0, "", ""},
		{"in a writable one that nobody reaches", 0o770, 0o600, 0, 0, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("SUDO_UID", test.sudo)
			dir, err := os.MkdirTemp(root, "")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "policy.yaml")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(file, test.owner, test.group); err != nil {
				t.Skip("this user namespace knows root alone")
			}
			if err := os.Chmod(file, test.file); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, test.dir); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(root, "link")
			os.Remove(link)
			if err := os.Symlink(file, link); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{file, link} {
				read, change, err := host.OthersMay(path)
				if err != nil {
					t.Fatal(err)
				}
				var words []string
				for verb, o := range map[string]host.Other{"reads": read, "changes": change} {
					if o.Who != "" {
						at := map[string]string{path: "file", dir: "dir"}[o.Path]
						words = append(words, fmt.Sprint(o.Who, " ", verb, " ", at))
					}
				}
				if len(words) == 2 && strings.Contains(words[0], "changes") {
					words[0], words[1] = words[1], words[0]
				}
				if got := strings.Join(words, ", "); got != test.want {
					t.Errorf("%s: got %q, want %q", path, got, test.want)
				}
			}
		})
	}
	if read, change, err := host.OthersMay("/dev/null"); err != nil || read.Who+change.Who != "" {
		t.Errorf("a device: %v, %v, %v", read, change, err)
	}
}
