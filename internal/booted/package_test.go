//go:build linux

package booted

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/lab/debian"
)

// packages builds the packages of this machine's processor, and returns the one with
// a suffix.
func packages(t *testing.T, suffix string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dist")
	cmd := exec.Command("go", "run", "./packaging", "-o", dir, "-only", "linux-amd64")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packaging: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

// TestPackage does what an administrator does with the package on a machine that has
// never seen Postern: installs it, writes a policy with init, hides sshd, upgrades,
// removes, purges. None of it opens or shuts anything by itself.
func TestPackage(t *testing.T) {
	deb := sync.OnceValue(func() string { return packages(t, ".deb") })
	for _, v := range []debian.Variant{debian.Plain, debian.Trixie} {
		t.Run(string(v), func(t *testing.T) {
			s := newScene(t, v, "nftables")
			s.m.Install(deb(), "/root/postern.deb", 0o644)
			tryPackage(s)
		})
	}
}

// tryPackage has the package in /root/postern.deb of a machine that is off.
func tryPackage(s *scene) {
	t := s.T
	s.m.On()
	run, line := s.m.Run, func(command string) string { return strings.TrimSpace(s.m.Run(command)) }
	is := func(command, want string) {
		t.Helper()
		if got := line(command); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}

	// Installing changes nothing.
	open := func(when string, want bool) {
		t.Helper()
		if r := s.probe(0, 50*time.Millisecond, func() {}); (r.Open > 0) != want {
			t.Errorf("%s: %s", when, r)
		}
	}
	open("at first", true)
	before := run("nft list ruleset; systemctl list-unit-files --state=enabled --no-legend")
	r := s.probe(0, 0, func() { run("dpkg -i /root/postern.deb") })
	if r.Open == 0 {
		t.Error("installing has hidden a port")
	}
	is("nft list ruleset; systemctl list-unit-files --state=enabled --no-legend", strings.TrimSpace(before))
	is("systemctl is-enabled postern postern-watchdog || true", "disabled\ndisabled")
	is("systemctl is-active postern postern-watchdog || true", "inactive\ninactive")
	is("systemctl show --property=LoadError,NeedDaemonReload postern postern-watchdog | sort -u", "LoadError=\nNeedDaemonReload=no")

	// What is in it.
	for file, want := range map[string]string{
		"/etc/postern": "700 root root", "/usr/bin/postern": "755 root root", "/usr/share/man/man1/postern-up.1.gz": "644 root root",
		"/usr/lib/systemd/system/postern.service": "644 root root", "/usr/share/doc/postern/examples/guard.yaml": "644 root root",
		"/usr/share/doc/postern/copyright": "644 root root",
	} {
		is("stat -c '%a %U %G' "+file, want)
	}
	is("dpkg --verify postern", "")
	for page, want := range map[string]string{"1 postern": "hide network services", "1 postern-up": "--backend", "5 postern-policy": "sequence", "5 postern-hosts": "step_timeout"} {
		if got := run("man " + page); !strings.Contains(got, want) {
			t.Errorf("man %s has no %q:\n%s", page, want, got)
		}
		is("man --warnings "+page+" 2>&1 >/dev/null", "")
	}
	is("man -k postern | grep -c '^postern'", line("ls /usr/share/man/man?/postern* | wc -l"))
	is(`bash -c '. /usr/share/bash-completion/completions/postern && complete -p postern' | grep -o '__start_postern postern'`, "__start_postern postern")
	is("systemd-analyze verify postern.service postern-watchdog.service 2>&1", "")
	is("zcat /usr/share/doc/postern/changelog.Debian.gz | head -1 | cut -d' ' -f1", "postern")

	// A first policy, and the way in.
	if said := run("postern init --yes 2>&1"); !strings.Contains(said, "door ssh hides tcp/22 behind 3 knocks") {
		t.Errorf("init: %s", said)
	}
	is("stat -c %a /etc/postern /etc/postern/policy.yaml", "700\n600")
	run("postern check")
	open("before up", true)
	link := line("postern share ssh --host " + s.link.Addr4().String() + " 2>/dev/null")
	run("postern install && postern up --yes")
	s.byLink(link, "after up")
	s.m.Off()
	r = s.boot()
	t.Logf("reboot: %s", r)
	if r.Open > 0 {
		t.Error("open while the machine boots")
	}
	s.byLink(link, "after a reboot")

	// An upgrade, and a second one, leave the rules, and what has been enabled.
	// Its handle says that it is the same table, and not the same rules loaded again.
	const table = "nft --handle list tables; nft list set inet postern rule_set"
	const units = "systemctl is-enabled postern postern-watchdog; systemctl is-active postern postern-watchdog || true"
	rules, states := line(table), line(units)
	if !strings.Contains(rules, "table inet postern") || !strings.HasPrefix(states, "enabled\nenabled\n") {
		t.Fatalf("%s\n%s", rules, states)
	}
	for _, how := range []string{"dpkg -i /root/postern.deb", "dpkg -i --force-all /root/postern.deb"} {
		if r := s.probe(0, 0, func() { run(how) }); r.Open > 0 {
			t.Errorf("open while: %s: %s", how, r)
		}
		is(table, rules)
		is(units, states)
		s.byLink(link, "after "+how)
	}

	// Removing leaves them as well, and says so.
	r = s.probe(0, 100*time.Millisecond, func() {
		if said := run("dpkg -r postern 2>&1"); !strings.Contains(said, "the rules stay loaded") {
			t.Errorf("dpkg -r: %s", said)
		}
	})
	if r.Open > 0 {
		t.Errorf("open while the package is removed: %s", r)
	}
	is(table, rules)
	is("systemctl list-unit-files --no-legend 'postern*'; find /etc/systemd /usr/lib/systemd -name 'postern*'", "")
	is("stat -c %a /etc/postern/policy.yaml", "600")
	is("test -d /var/lib/postern && echo there", "there")
	if failed := s.m.Failed(); failed != "" {
		t.Errorf("failed units:\n%s", failed)
	}

	// The policy is its author's, even when all else goes.
	if r := s.probe(0, 0, func() { run("dpkg -P postern") }); r.Open > 0 {
		t.Errorf("open while the package is purged: %s", r)
	}
	is("ls -A /etc/postern; ls -d /var/lib/postern /usr/share/doc/postern 2>/dev/null || true", "policy.yaml")
	is("dpkg-query -l postern 2>&1 | grep -c ^ii || true", "0")

	// As it was said: the next boot opens what was hidden. Installed again it hides
	// it again.
	s.m.Reboot()
	open("removed, and rebooted", true)
	run("dpkg -i /root/postern.deb && postern install && postern up --yes")
	s.byLink(link, "installed again")
}

// byLink fails the test unless the port is hidden from all but those with the link.
func (s *scene) byLink(link, when string) {
	s.Helper()
	if r := s.probe(0, 50*time.Millisecond, func() {}); r.Open > 0 {
		s.Errorf("%s: %s", when, r)
	}
	dir := s.TempDir()
	env := fmt.Sprintf("env HOME=%[1]s XDG_CONFIG_HOME=%[1]s XDG_CACHE_HOME=%[1]s %[2]s ", dir, program)
	if out, err := s.outside.Command(s.Context(), "sh", "-c", env+"add '"+link+"' gw").CombinedOutput(); err != nil {
		s.Fatalf("%s: add %q: %v: %s", when, link, err, out)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	out, err := s.m.SSH(ctx, s.outside, s.link.Addr4(), "echo in", "-o", "ProxyCommand="+env+"connect --quiet gw").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "in" {
		s.Errorf("%s: through the door: %v: %s", when, err, out)
	}
}
