package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestUnitsVerify has systemd read the units, for a program that is there. What it
// says of the sandbox must not get worse.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	folder := t.TempDir()
	for _, f := range Files("/bin/true") {
		if filepath.Base(f.Path) != f.Path {
			continue
		}
		name := filepath.Join(folder, f.Path)
		// Man pages come with the package.
		text := strings.ReplaceAll(f.Text, "Documentation=", "#")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", name).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", f.Path, err, out)
		}
		// Tenths, as systemd-analyze has them: 2.2. CAP_SYS_ADMIN, for keys, makes 0.3 of it.
		if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=22", name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f.Path, err, out)
		}
	}
}

// TestUnitsAreAlike: both services have the same sandbox and the same folders.
func TestUnitsAreAlike(t *testing.T) {
	sandbox := func(f File) string {
		_, text, _ := strings.Cut(f.Text, "\nStateDirectory=")
		text, _, _ = strings.Cut(text, "\n[Install]")
		return text
	}
	files := Files(program)
	if a, b := sandbox(files[0]), sandbox(files[1]); a == "" || a != b {
		t.Errorf("%s and %s differ:\n%s\n%s", files[0].Path, files[1].Path, a, b)
	}
}

func TestFilesNameTheProgram(t *testing.T) {
	for _, f := range Files("/opt/x/postern") {
		if !strings.HasPrefix(f.Text, header) {
			t.Errorf("%s does not begin with %q", f.Path, header)
		}
		if strings.Contains(f.Text, program) || !strings.Contains(f.Text, "/opt/x/postern ") {
			t.Errorf("%s does not run the program:\n%s", f.Path, f.Text)
		}
	}
}

// scene is a host in a folder, and a systemctl that notes how it was called.
type scene struct {
	*testing.T
	Host
	log string
}

func newScene(t *testing.T) *scene {
	s := &scene{t, Host{t.TempDir()}, filepath.Join(t.TempDir(), "log")}
	if err := os.MkdirAll(s.path("/run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	s.put(filepath.Join(bin, "systemctl"), "#!/bin/sh\necho \"$@\" >>"+s.log+"\n", 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return s
}

func (s *scene) put(name, text string, mode os.FileMode) {
	s.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), mode)); err != nil {
		s.Fatal(err)
	}
}

// do carries out a plan, and expects it to have run these commands.
func (s *scene) do(p Plan, err error, commands ...string) {
	s.Helper()
	os.Remove(s.log)
	if err == nil {
		err = s.Do(p)
	}
	if err != nil {
		s.Fatal(err)
	}
	text, _ := os.ReadFile(s.log)
	if got := strings.Fields(strings.ReplaceAll(string(text), " ", "_")); !slices.Equal(got, commands) {
		s.Errorf("ran %q, want %q", got, commands)
	}
}

// units returns the files of ours and others below the administrator's folder.
func (s *scene) units() (all []string) {
	filepath.WalkDir(s.path(adminUnits), func(name string, d os.DirEntry, err error) error {
		if err == nil && name != s.path(adminUnits) {
			all = append(all, strings.TrimPrefix(name, s.path(adminUnits)+"/"))
		}
		return nil
	})
	return all
}

const (
	reload  = "daemon-reload"
	enable  = "enable_postern.service_postern-watchdog.service"
	load    = "start_postern.service"
	start   = "start_postern-watchdog.service"
	restart = "restart_postern-watchdog.service"
	disable = "disable_--now_postern.service_postern-watchdog.service"
)

// TestInstall installs, twice, by another program, and uninstalls. Files of others
// stay.
func TestInstall(t *testing.T) {
	s := newScene(t)
	mine := s.path(adminUnits + "/ufw.service.d/mine.conf")
	s.put(mine, "[Unit]\n", 0o644)
	before := s.units()
	install := func(at string, running bool, commands ...string) {
		t.Helper()
		p, err := s.Install(at, running)
		s.do(p, err, commands...)
	}
	install("/usr/local/bin/postern", false, reload, enable, restart)
	for _, f := range Files("/usr/local/bin/postern") {
		if text, err := s.read(filepath.Join(adminUnits, f.Path)); err != nil || text != f.Text {
			t.Errorf("%s: %v\n%s", f.Path, err, text)
		}
	}
	install("/usr/local/bin/postern", false, enable, start)
	install("/usr/sbin/postern", true, reload, enable, load, restart)
	p, err := s.Uninstall()
	s.do(p, err, disable, reload)
	if after := s.units(); !slices.Equal(before, after) {
		t.Errorf("uninstall leaves %q of %q", after, before)
	}
	p, err = s.Uninstall()
	if s.do(p, err); len(p) > 0 {
		t.Errorf("nothing to undo, and the plan is %v", p)
	}
}

// TestInstallBesidePackage: what a package has brought is enabled, not written, and
// stays when it is undone.
func TestInstallBesidePackage(t *testing.T) {
	s := newScene(t)
	for _, f := range Files(program) {
		s.put(s.path("/usr/lib/systemd/system/"+f.Path), f.Text, 0o644)
	}
	p, err := s.Install(program, true)
	s.do(p, err, enable, load, start)
	if all := s.units(); len(all) > 0 {
		t.Errorf("writes %q", all)
	}
	p, err = s.Uninstall()
	s.do(p, err, disable)
	if _, err := s.read("/usr/lib/systemd/system/postern.service"); err != nil {
		t.Error(err)
	}
}

func TestInstallRefuses(t *testing.T) {
	s := newScene(t)
	var hidden *HiddenError
	if _, err := s.Install("/root/bin/postern", false); !errors.As(err, &hidden) {
		t.Errorf("a program that the units cannot see: %v", err)
	}
	name := adminUnits + "/postern.service"
	s.put(s.path(name), "[Service]\nExecStart=/usr/local/bin/postern up\n", 0o644)
	var foreign *ForeignError
	if _, err := s.Install(program, false); !errors.As(err, &foreign) || foreign.Path != name {
		t.Errorf("another's unit: %v", err)
	}
	if p, err := s.Uninstall(); err != nil || len(p) > 0 {
		t.Errorf("another's unit would be removed: %v, %v", p, err)
	}
	os.Remove(s.path("/run/systemd/system"))
	os.Remove(s.path(name))
	if p, err := s.Install(program, false); err != nil || len(p) == 0 || !errors.Is(s.Do(p), ErrNoSystemd) {
		t.Errorf("without systemd: %v, %v", p, err)
	}
	if p, err := s.Uninstall(); err != nil || !errors.Is(s.Do(p), ErrNoSystemd) {
		t.Errorf("without systemd: %v, %v", p, err)
	}
	if all := s.units(); len(all) > 0 {
		t.Errorf("without systemd there are %q", all)
	}
}
