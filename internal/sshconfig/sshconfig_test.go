package sshconfig

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBlock: the real ssh reads blocks of all that hosts may hold.
func TestBlock(t *testing.T) {
	for _, h := range []*Host{
		home(),
		{Name: "a.b_c-d", Address: "fe80::1%eth0", Port: 1, Command: "x"},
		{Name: "h", Address: "192.0.2.1", Port: 65535, User: "#1=@%h", Command: Quote("/a b/#1/it's", "connect", "h")},
	} {
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, []byte(h.Block()+"Host *\n\tUser nobody\n\tPort 9\n\tProxyJump other\n\tHostName other\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"hostname": h.Address, "user": h.User, "port": strings.Trim(strings.Fields(h.Block())[5], "\n"),
			"proxycommand": h.Command, "proxyusefdpass": map[ProxyMode]string{PassFD: "yes", Relay: "no"}[h.Mode],
		}
		if h.User == "" {
			want["user"] = "nobody"
		}
		inFile := ask(t, "-F", path, h.Name)
		if h.User == "" {
			want["user"] = inFile["user"] // the command line sets no other
		}
		onLine := ask(t, append(append([]string{"-F", path}, h.Arguments(&CommandLine{})...), h.Name)...)
		for key, want := range want {
			if inFile[key] != want {
				t.Errorf("in a file: %s %q, want %q", key, inFile[key], want)
			}
			if onLine[key] != want {
				t.Errorf("on the command line: %s %q, want %q", key, onLine[key], want)
			}
		}
		if inFile["proxyjump"] != "" {
			t.Errorf("goes by way of %q", inFile["proxyjump"])
		}
	}
}

// TestQuote: shells split the words again as ssh passes them.
func TestQuote(t *testing.T) {
	want := []string{"/opt/my tools/it's", `"a"`, `\`, `\\n`, "$HOME `id` $(id)", "#a", "~", "*", "a!b!", "%h", "100%", "", "é", "a;b&c|d<e>f", "-q"}
	if got := Quote("postern", "connect", "a.b_c-d"); got != "postern connect a.b_c-d" {
		t.Errorf("%s", got)
	}
	program := filepath.Join(t.TempDir(), "it's a %h \\ # \"program\"!")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	command := Quote(append([]string{program}, want...)...)
	// ssh expands %% and the names of its tokens.
	command = strings.ReplaceAll(command, "%%", "%")
	for _, shell := range []string{"sh", "bash", "dash"} {
		out, err := exec.Command(shell, "-c", "exec "+command).Output()
		if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); err != nil || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %q, %v", shell, got, err)
		}
	}
	// All of it, through ssh.
	mark := filepath.Join(t.TempDir(), "it's here")
	err := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ProxyCommand="+Quote("touch", mark), "home").Run()
	if _, here := os.Stat(mark); err == nil || here != nil {
		t.Errorf("%v, %v", err, here)
	}
}
