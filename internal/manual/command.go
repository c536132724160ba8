package manual

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
)

// verbs returns the verbs that the help lists.
func (s *Source) verbs() []*cobra.Command {
	return slices.DeleteFunc(s.Root.Commands(), func(c *cobra.Command) bool { return !c.IsAvailableCommand() && c.Name() != "help" })
}

func pageOf(verb *cobra.Command) Page {
	return Page{Name: "postern-" + verb.Name(), Section: 1, Short: verb.Short}
}

// program returns the page of the program.
func (s *Source) program(exits string) Page {
	p := program
	p.Short = s.Root.Short
	var w writer
	w.title(p, s.Date, s.Version)
	w.synopsis(s.Root)
	w.heading("Description")
	w.help(s.Root.Long)
	w.heading("Verbs")
	for _, verb := range s.verbs() {
		w.tagged(reference(pageOf(verb)), text(verb.Short))
	}
	w.options(s.Root)
	w.heading("Examples")
	w.paragraph(text("On a server, hide SSH, and print a link for the client:"))
	w.verbatim([]string{"postern init", "postern share ssh --host server.example", "postern up --yes"})
	w.paragraph(text("On the client, save the link, and log in through the door:"))
	w.verbatim([]string{"postern add server 'postern://...'", "postern ssh ann@server"})
	w.paragraph(text("Back on the server, as root, keep the rules, also after a reboot:"))
	w.verbatim([]string{"postern confirm", "postern install"})
	w.heading("Exit status")
	if err := w.markdown(exits); err != nil {
		panic("manual: README.md, section Exit codes: " + err.Error())
	}
	w.heading("Files")
	for _, f := range files {
		w.tagged(italic(literal(f[0])), text(f[1]))
	}
	w.heading("Environment")
	for _, v := range variables {
		w.tagged(bold(literal(v[0])), text(v[1]))
	}
	w.seeAlso([]Page{policyFile, hostsFile})
	w.begun = true
	w.paragraph(text("The directory /usr/share/doc/postern has more: how to recover, other firewalls,\nlimits, and policies to start from."))
	p.Text = w.String()
	return p
}

var files = [][2]string{
	{"/etc/postern/policy.yaml", "the policy of this host, on a server"},
	{"/var/lib/postern", "the policy that ran last, which a reboot loads again"},
	{"~/.config/postern/hosts.yaml", "the saved hosts, on a client; elsewhere than on Linux in the user's folder for settings"},
}

var variables = [][2]string{
	{"NO_COLOR", "if it is not empty, no colours are used"},
	{"SSH_CONNECTION", "where the caller is logged in from, as sshd sets it"},
	{"XDG_CONFIG_HOME", "where the folder of the hosts file is, instead of ~/.config"},
}

// verb returns the page of a verb.
func (s *Source) verb(cmd *cobra.Command) Page {
	p := pageOf(cmd)
	var w writer
	w.title(p, s.Date, s.Version)
	w.synopsis(cmd)
	w.heading("Description")
	long := cmd.Long
	if long == "" {
		long = strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
	}
	w.help(long)
	w.options(cmd)
	if example := strings.Trim(cmd.Example, "\n"); example != "" {
		w.heading("Examples")
		w.verbatim(strings.Split(example, "\n"))
	}
	w.heading("Exit status")
	w.line("See\n" + reference(program) + ".")
	w.seeAlso(s.related(cmd, long))
	p.Text = w.String()
	return p
}

var mentioned = regexp.MustCompile(`"postern\s+([a-z-]+)`)

// related returns the pages that a verb's help leads to.
func (s *Source) related(cmd *cobra.Command, long string) []Page {
	also := []Page{program}
	for _, verb := range s.verbs() {
		if verb != cmd && slices.ContainsFunc(mentioned.FindAllStringSubmatch(long, -1), func(found []string) bool { return found[1] == verb.Name() }) {
			also = append(also, pageOf(verb))
		}
	}
	if cmd.Annotations[ui.Without+"file"] == "" {
		also = append(also, policyFile)
	}
	if strings.Contains(long, "hosts file") || strings.Contains(long, "saved host") {
		also = append(also, hostsFile)
	}
	return also
}

// synopsis writes how to call a command: its names as they are, what to replace
// in italics.
func (w *writer) synopsis(cmd *cobra.Command) {
	w.heading("Synopsis")
	rest := strings.TrimPrefix(ui.UsageLine(cmd), cmd.CommandPath())
	w.line(bold(literal(cmd.CommandPath())) + placeholder.ReplaceAllStringFunc(literal(rest), italic))
}

var placeholder = regexp.MustCompile(`[A-Z]{2,}|\bflags\b`)

// options writes the flags of a command.
func (w *writer) options(cmd *cobra.Command) {
	all := ui.Flags(cmd)
	if len(all) == 0 {
		return
	}
	w.heading("Options")
	for _, f := range all {
		var names []string
		for name := range strings.SplitSeq(strings.TrimSpace(f.Names), ", ") {
			names = append(names, bold(literal(name)))
		}
		value := literal(f.Value)
		if word, ok := strings.CutPrefix(value, " "); ok {
			value = " " + italic(word)
		} else if value != "" {
			value = bold(value)
		}
		w.tagged(strings.Join(names, ", ")+value, text(f.Text))
	}
}

// help writes a text of the help. Its paragraphs are filled; an indented line is of
// a list or an example, and stays as it is.
func (w *writer) help(long string) {
	for block := range strings.SplitSeq(strings.Trim(long, "\n"), "\n\n") {
		lines := strings.Split(block, "\n")
		for len(lines) > 0 {
			indented := strings.HasPrefix(lines[0], " ")
			n := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, " ") != indented })
			if n < 0 {
				n = len(lines)
			}
			if indented {
				w.verbatim(lines[:n])
			} else {
				w.paragraph(text(strings.Join(lines[:n], "\n")))
			}
			lines = lines[n:]
		}
	}
}
