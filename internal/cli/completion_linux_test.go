package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestComplete asks for completions as a shell's script does.
func TestComplete(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	if err := os.Mkdir(filepath.Join(home, "postern"), 0o700); err != nil {
		t.Fatal(err)
	}
	const saved = "version: 1\nhosts:\n  home: {address: home.example, knock: [4711]}\n  vpn: {address: 192.0.2.1, port: udp/51820, knock: [4711]}\n"
	// Others may read it: completion says nothing of that.
	if err := os.WriteFile(filepath.Join(home, "postern", "hosts.yaml"), []byte(saved), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "policy.yaml")
	const policy = "version: 1\nposture: closed\ndoors:\n  ssh: {service: 22, knock: {sequence: [1234]}}\n  web: {service: [80, 443], knock: {sequence: [2345]}}\n"
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	hosts, doors := []string{"home", "vpn"}, []string{"ssh", "web"}
	for _, test := range []struct {
		words []string
		want  []string // at least these; nil for nothing at all
	}{
		{[]string{"knock", ""}, hosts},
		{[]string{"knock", "-4", "h"}, []string{"home"}},
		{[]string{"knock", "home", ""}, nil},
		{[]string{"connect", ""}, hosts},
		{[]string{"connect", "home", ""}, nil},
		{[]string{"forward", ""}, hosts},
		{[]string{"forward", "home", ""}, nil},
		{[]string{"ssh-config", "--install", ""}, hosts},
		{[]string{"ssh", ""}, hosts},
		{[]string{"ssh", "-p", "22", ""}, hosts},
		{[]string{"ssh", "ann@"}, []string{"ann@home", "ann@vpn"}},
		{[]string{"ssh", "home", ""}, nil},
		{[]string{"add", ""}, nil},
		{[]string{"add", "--force", ""}, hosts},
		{[]string{"add", "--family", ""}, []string{"4", "6"}},
		{[]string{"share", "-f", file, ""}, doors},
		{[]string{"share", "-f", file, "ssh", ""}, nil},
		{[]string{"share", "-f", file, "web", "--service", ""}, []string{"tcp/80", "tcp/443"}},
		{[]string{"share", "-f", "-", ""}, nil}, // which would wait for ever
		{[]string{"share", "-f", file + ".none", ""}, nil},
		{[]string{"show", "-f", file, "--door", ""}, doors},
		{[]string{"show", "--format", ""}, []string{"nft", "client-sh", "client-ps1", "ports"}},
		{[]string{"up", "--backend", ""}, []string{(refusal{}).Name()}},
		{[]string{"check", "--backend", ""}, []string{(refusal{}).Name()}},
		{[]string{"completion", ""}, []string{"bash", "fish"}},
	} {
		code, out, _ := run(refusal{}, append([]string{"__complete"}, test.words...)...)
		var got []string
		for line := range strings.Lines(out) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		missing := slices.DeleteFunc(slices.Clone(test.want), func(w string) bool { return slices.Contains(got, w) })
		if code != 0 || len(missing) > 0 || test.want == nil && len(got) > 0 {
			t.Errorf("%q completes to %q, want %q (exit code %d)", test.words, got, test.want, code)
		}
		if strings.Contains(out, "4711") {
			t.Errorf("%q shows the knocks: %s", test.words, out)
		}
	}
}
