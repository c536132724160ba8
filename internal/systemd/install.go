package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Host is a machine that systemd runs. The zero value is this one.
type Host struct {
	Root string // of its file system; "" is "/"
}

// Folders of units. An administrator's come before those of packages.
const adminUnits = "/etc/systemd/system"

var packagedUnits = []string{"/usr/lib/systemd/system", "/lib/systemd/system"}

// ErrNoSystemd says that another init system runs this host.
var ErrNoSystemd = errors.New("this host is not run by systemd")

// A ForeignError is a file in the place of one of ours that is not ours.
type ForeignError struct{ Path string }

func (e *ForeignError) Error() string {
	return e.Path + " exists, and is not of postern install"
}

// A HiddenError is a program in a folder that the units' sandbox hides.
type HiddenError struct{ Program string }

func (e *HiddenError) Error() string {
	return fmt.Sprintf("a unit cannot run %s: its sandbox hides that folder", e.Program)
}

// A Step of a plan is one of these.
type Step struct {
	Write  *File    `json:"write,omitempty"`  // with its whole path
	Remove string   `json:"remove,omitempty"` // a file
	Run    []string `json:"run,omitempty"`    // a command
}

// A Plan is what is to be done, in this order. What is done already is not in it.
type Plan []Step

func (h Host) path(name string) string { return filepath.Join("/", h.Root, name) }

// Booted reports whether systemd runs the host (sd_booted(3)).
func (h Host) Booted() bool {
	info, err := os.Lstat(h.path("/run/systemd/system"))
	return err == nil && info.IsDir()
}

// Install plans to have systemd load the rules at boot and run the watchdog, by the
// program at a path. With load, which is for a host that has a policy loaded, the
// unit that loads it runs now, too. A plan can be made without systemd, and not done.
func (h Host) Install(at string, load bool) (Plan, error) {
	for _, hidden := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(at, hidden) {
			return nil, &HiddenError{at}
		}
	}
	var p Plan
	for _, f := range Files(at) {
		name := filepath.Join(adminUnits, f.Path)
		now, err := h.read(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && h.packaged(f):
		case err == nil && now == f.Text:
		case err == nil && !strings.HasPrefix(now, header):
			return nil, &ForeignError{name}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		default:
			p = append(p, Step{Write: &File{name, f.Text}})
		}
	}
	start := "start"
	if len(p) > 0 {
		p = append(p, systemctl("daemon-reload"))
		start = "restart" // by the new text
	}
	p = append(p, systemctl("enable", Units...))
	if load {
		p = append(p, systemctl("start", Units[0]))
	}
	return append(p, systemctl(start, Units[1])), nil
}

// packaged reports whether a package has brought the same file.
func (h Host) packaged(f File) bool {
	for _, folder := range packagedUnits {
		if text, err := h.read(filepath.Join(folder, f.Path)); err == nil && text == f.Text {
			return true
		}
	}
	return false
}

// Uninstall plans to undo what Install has done. Policies stay, and so do the rules
// that are loaded. An empty plan says that there is nothing to undo.
func (h Host) Uninstall() (Plan, error) {
	ours := func(name string) bool {
		text, err := h.read(name)
		return err == nil && strings.HasPrefix(text, header)
	}
	var units []string
	for _, unit := range Units {
		for _, folder := range append([]string{adminUnits}, packagedUnits...) {
			if ours(filepath.Join(folder, unit)) {
				units = append(units, unit)
				break
			}
		}
	}
	var p Plan
	if len(units) > 0 {
		p = append(p, systemctl("disable", append([]string{"--now"}, units...)...))
	}
	removed := false
	for _, f := range Files(program) {
		if name := filepath.Join(adminUnits, f.Path); ours(name) {
			p = append(p, Step{Remove: name})
			removed = true
		}
	}
	if removed {
		p = append(p, systemctl("daemon-reload"))
	}
	return p, nil
}

func (h Host) read(name string) (string, error) {
	text, err := os.ReadFile(h.path(name))
	return string(text), err
}

func systemctl(verb string, args ...string) Step {
	return Step{Run: append([]string{"systemctl", verb}, args...)}
}

// Do carries out a plan. What was done before a step that failed stays, and the next
// plan begins there.
func (h Host) Do(p Plan) error {
	if !h.Booted() {
		return ErrNoSystemd
	}
	for _, s := range p {
		var err error
		switch {
		case s.Write != nil:
			err = h.write(s.Write)
		case s.Remove != "":
			err = h.remove(s.Remove)
		default:
			err = run(s.Run)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write replaces a file as a whole.
func (h Host) write(f *File) error {
	name := h.path(f.Path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", []byte(f.Text), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// remove removes a file, and the folder of a drop-in if it is empty then.
func (h Host) remove(name string) error {
	if err := os.Remove(h.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if folder := filepath.Dir(name); folder != adminUnits {
		os.Remove(h.path(folder)) // fails while others have a drop-in there
	}
	return nil
}

func run(command []string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
