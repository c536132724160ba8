//go:build !(386 || arm || mips || mipsle)

package cli

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/demo"
	"postern/internal/lab"
)

func init() { runDemo = demoInLab }

// demoInLab runs the demo on hosts made of network namespaces.
func demoInLab(cmd *cobra.Command) error {
	// It may run the program again, so nothing may have been said yet.
	if err := lab.Enter(); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	screen := demoScreen(out)
	if asJSON {
		screen = &demo.Screen{Out: io.Discard}
	}
	report, err := demo.Run(cmd.Context(), screen, demo.Policy())
	if err != nil || !asJSON {
		return err
	}
	v := ui.Voice{Out: out, JSON: true}
	return v.Answer(report)
}

// demoScreen returns what the demo is shown on. On a terminal it pauses for the reader.
func demoScreen(out io.Writer) *demo.Screen {
	screen := &demo.Screen{Out: out}
	if f, ok := out.(*os.File); ok {
		screen.Paced, screen.Colour = ui.IsTerminal(f), ui.TakesColour(f)
	}
	return screen
}
