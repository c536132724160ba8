package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/firewall/backends"
)

// TestHelpFits: no line of any verb's help is wider than the narrowest screen.
func TestHelpFits(t *testing.T) {
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		var b strings.Builder
		ui.Help(cmd, &b)
		for line := range strings.Lines(b.String()) {
			if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > ui.Screen {
				t.Errorf("%s: wider than %d: %q", cmd.CommandPath(), ui.Screen, line)
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	root := (&session{backends: backends.All()}).rootCommand()
	if len(root.Commands()) < 10 {
		t.Fatalf("there are but %d verbs", len(root.Commands()))
	}
	look(root)
}
