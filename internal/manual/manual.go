// Package manual makes the manual pages: of each verb from its help, and of the
// files from the pages in docs. It reads and writes nothing itself.
package manual

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// A Page is a manual page.
type Page struct {
	Name    string
	Section int
	Short   string // what it is about, in a line
	Text    string // the page itself, for man
}

// File returns the name of the page's file: "postern.1".
func (p Page) File() string { return fmt.Sprintf("%s.%d", p.Name, p.Section) }

// The pages that are no verb's.
var (
	program    = Page{Name: "postern", Section: 1}
	policyFile = Page{Name: "postern-policy", Section: 5, Short: "the policy file of postern"}
	hostsFile  = Page{Name: "postern-hosts", Section: 5, Short: "the hosts file of postern's client"}
)

// A Source is what the pages are made of.
type Source struct {
	Root    *cobra.Command // with the verbs
	Readme  string         // README.md, whose section "Exit codes" is used
	Policy  string         // docs/policy.md
	Hosts   string         // docs/hosts.md
	Date    time.Time
	Version string
}

// Pages returns all pages.
func (s *Source) Pages() ([]Page, error) {
	s.Root.InitDefaultHelpCmd()
	exits, err := section(s.Readme, "Exit codes")
	if err != nil {
		return nil, err
	}
	pages := []Page{s.program(exits)}
	for _, verb := range s.verbs() {
		pages = append(pages, s.verb(verb))
	}
	for page, markdown := range map[Page]string{policyFile: s.Policy, hostsFile: s.Hosts} {
		if page, err = s.file(page, markdown); err != nil {
			return nil, fmt.Errorf("%s: %w", page.File(), err)
		}
		pages = append(pages, page)
	}
	slices.SortFunc(pages, func(a, b Page) int { return strings.Compare(a.File(), b.File()) })
	return pages, nil
}

// file returns the page of a file.
func (s *Source) file(p Page, markdown string) (Page, error) {
	var w writer
	w.title(p, s.Date, s.Version)
	w.heading("Description")
	if err := w.markdown(markdown); err != nil {
		return p, err
	}
	also := []Page{program, policyFile, hostsFile}
	w.seeAlso(slices.DeleteFunc(also, func(other Page) bool { return other == p }))
	p.Text = w.String()
	return p, nil
}

func (w *writer) seeAlso(pages []Page) {
	var all []string
	for _, p := range pages {
		all = append(all, reference(p))
	}
	w.heading("See also")
	w.line(strings.Join(all, ",\n"))
}
