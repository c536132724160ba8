package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postern/internal/paragraph"
)

// Help writes what a verb does and how to call it. Cobra's own way uses templates,
// with which the linker cannot leave out unused methods: the program would be twice
// as large.
func Help(cmd *cobra.Command, w io.Writer) {
	var b strings.Builder
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintf(&b, "%s\n\nusage: %s\n", set(text), UsageLine(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nfor example:\n%s\n", strings.TrimRight(cmd.Example, "\n"))
	}
	var verbs [][2]string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			verbs = append(verbs, [2]string{sub.Name(), sub.Short})
		}
	}
	columns(&b, "verbs:", verbs)
	var flags [][2]string
	for _, f := range Flags(cmd) {
		flags = append(flags, [2]string{f.Names + f.Value, f.Text})
	}
	columns(&b, "flags:", flags)
	io.WriteString(w, b.String())
}

// set wraps the paragraphs of a text to the screen. One with an indented line is a
// list or an example, and stays as it is.
func set(text string) string {
	all := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, p := range all {
		if !strings.Contains("\n"+p, "\n ") {
			all[i] = strings.Join(paragraph.Wrap(p, Screen), "\n")
		}
	}
	return strings.Join(all, "\n\n")
}

// UsageLine returns how to call a command.
func UsageLine(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	if cmd.HasAvailableSubCommands() {
		line += " VERB"
	}
	if _, args, found := strings.Cut(cmd.Use, " "); found {
		line += " " + args
	}
	if cmd.DisableFlagParsing {
		return line
	}
	return line + " [flags]"
}

// A Flag is what the help says of a flag.
type Flag struct {
	Names string // "-f, --file"; one without a letter is indented as if it had one
	Value string // what is written after it: " FILE", "=false", or nothing
	Text  string
}

// Flags returns the flags of a command, its own before the shared ones.
func Flags(cmd *cobra.Command) []Flag {
	var all []Flag
	add := func(f *pflag.Flag) {
		if f.Hidden || cmd.Annotations[Without+f.Name] != "" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		flag := Flag{Names: "    --" + f.Name, Text: text}
		if f.Shorthand != "" {
			flag.Names = "-" + f.Shorthand + ", --" + f.Name
		}
		if value != "" && f.DefValue != "true" {
			flag.Value = " " + value
		}
		switch f.DefValue {
		case "", "false", "[]":
		case "true":
			flag.Value = "=false" // the text says what that does
		default:
			flag.Text += " (default " + f.DefValue + ")"
		}
		all = append(all, flag)
	}
	cmd.LocalNonPersistentFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	cmd.PersistentFlags().VisitAll(add)
	return all
}

// columns writes a heading and two columns.
func columns(b *strings.Builder, heading string, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	width := 0
	for _, row := range rows {
		width = max(width, len(row[0]))
	}
	fmt.Fprintf(b, "\n%s\n", heading)
	for _, row := range rows {
		name := row[0]
		for _, line := range paragraph.Wrap(row[1], Screen-width-4) {
			fmt.Fprintf(b, "  %-*s  %s\n", width, name, line)
			name = ""
		}
	}
}

// Screen is the width of the narrowest terminal, less one column.
const Screen = 79

// Without marks a verb that does not take a shared flag.
const Without = "without "

// WithoutPolicy marks a verb that reads no policy.
func WithoutPolicy(cmd *cobra.Command) {
	cmd.Annotations = map[string]string{Without + "file": "yes"}
}

// WithoutAny marks a verb that takes neither --file nor --json.
func WithoutAny(cmd *cobra.Command) {
	cmd.Annotations = map[string]string{Without + "file": "yes", Without + "json": "yes"}
}
