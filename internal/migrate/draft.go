package migrate

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"postern/internal/document"
	"postern/internal/policy"
)

// A draft is a policy that is being written. What is the default is not.
type draft struct {
	head       []string // what a reader should know first
	posture    policy.Posture
	cover      policy.Cover
	interfaces []string
	ifaceLine  int // of the input
	allow      []allowed
	source     policy.Source
	log        policy.Log
	doors      []*door
}

// An allowed is an entry of allow.
type allowed struct {
	service policy.Service
	from    netip.Prefix
	iface   string
	line    int // of the input
}

// A door is one of the draft.
type door struct {
	policy.Door
	line     int      // of the input that it is read off
	section  string   // of a knockd.conf that it is read off
	v6       bool     // these were rules for IPv6
	comments []string // about choices that were made
	left     leftovers
}

func newDraft() *draft {
	usual := policy.New("")
	return &draft{source: usual.Source, log: usual.Log}
}

func newDoor(line int, left *leftovers) *door {
	return &door{line: line, left: leftovers{lines: left.lines}, Door: policy.NewDoor("")}
}

// A part is what a line of the draft's text belongs to, so that it can go if
// the policy is not valid with it.
type part struct {
	door   *door
	allow  *allowed
	ifaces bool
}

// write gives the text, and what each of its lines belongs to.
func (d *draft) write() (string, []part) {
	var b strings.Builder
	var parts []part
	var owner part
	line := func(format string, args ...any) {
		fmt.Fprintf(&b, format+"\n", args...)
		parts = append(parts, owner)
	}
	for _, text := range d.head {
		line("# %s", text)
	}
	line("version: 1")
	line("posture: %s", d.posture)
	if len(d.interfaces) > 0 {
		owner = part{ifaces: true}
		line("interfaces: [%s]", strings.Join(quoted(d.interfaces), ", "))
		owner = part{}
	}
	if d.cover != "" && d.cover != d.posture.DefaultCover() {
		line("cover: %s", d.cover)
	}
	if len(d.allow) > 0 {
		line("")
		line("# What needs no knock.")
		line("allow:")
		for i := range d.allow {
			owner = part{allow: &d.allow[i]}
			line("  - %s", d.allow[i].text())
		}
		owner = part{}
	}
	line("")
	line("doors:")
	for i, dr := range d.doors {
		if i > 0 {
			line("")
		}
		owner = part{door: dr}
		dr.write(line)
		owner = part{}
	}
	if d.source != policy.New("").Source {
		line("")
		line("source: {ipv4: %d, ipv6: %d}", d.source.IPv4, d.source.IPv6)
	}
	switch d.log.Target {
	case policy.LogNone:
		line("")
		line("log: {target: none}")
	case policy.LogNFLOG:
		line("")
		line("log: {target: nflog, group: %d}", d.log.Group)
	}
	return b.String(), parts
}

func (d *door) write(line func(string, ...any)) {
	line("  %s:", d.Name)
	for _, c := range d.comments {
		line("    # %s", c)
	}
	line("    service: %s", ports(d.Services))
	if d.Address.IsValid() {
		line("    address: \"%s\"", d.Address)
	}
	if d.Forward.IsValid() {
		line("    forward: \"%s\"", d.Forward)
	}
	if d.Masquerade {
		line("    masquerade: true")
	}
	line("    knock:")
	var words []string
	for _, p := range d.Knock.Sequence {
		words = append(words, knock(p))
	}
	line("      sequence: [%s]", strings.Join(words, ", "))
	if d.Knock.StepTimeout != policy.DefaultStepTimeout {
		line("      step_timeout: %s", document.FormatDuration(d.Knock.StepTimeout))
	}
	if d.Knock.Retransmits == policy.RetransmitsReset {
		line("      retransmits: reset # a knock that comes again starts the sequence over")
	}
	if d.OpenFor != policy.DefaultOpenFor {
		line("    open_for: %s", document.FormatDuration(d.OpenFor))
	}
	if d.Admit == policy.AdmitAny {
		line("    admit: any")
	}
	if d.Forfeit {
		line("    forfeit: true # another packet before the connection loses the grant")
	}
	if len(d.From) > 0 {
		var from []string
		for _, p := range d.From {
			from = append(from, network(p))
		}
		line("    from: [%s]", strings.Join(quoted(from), ", "))
	}
}

func (a *allowed) text() string {
	var all []string
	if a.service != (policy.Service{}) {
		all = append(all, "service: "+a.service.String())
	}
	if a.from.IsValid() {
		all = append(all, "from: "+quoted([]string{network(a.from)})[0])
	}
	if a.iface != "" {
		all = append(all, "interface: "+quoted([]string{a.iface})[0])
	}
	if len(all) == 1 {
		return all[0]
	}
	return "{" + strings.Join(all, ", ") + "}"
}

// network is one as a person writes it: a single address without a length.
func network(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// plainWord is what YAML may take for nothing but a word, if it is none of its own.
var (
	plainWord = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9._-]*|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(/[0-9]+)?)$`)
	yamlWord  = regexp.MustCompile(`(?i)^(null|true|false|yes|no|on|off|y|n)$`)
)

func quoted(words []string) []string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = w
		if !plainWord.MatchString(w) || yamlWord.MatchString(w) {
			all[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`
		}
	}
	return all
}

func ports(all []policy.Port) string {
	var words []string
	for _, p := range all {
		words = append(words, p.String())
	}
	if len(words) == 1 {
		return words[0]
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// knock is a knock as one writes it.
func knock(p policy.Port) string {
	if p.Protocol == policy.TCP {
		return fmt.Sprint(p.Number)
	}
	return p.String()
}

var elsewhere = regexp.MustCompile(` \((?:first on )?line \d+\)`)

// settle gives the text of the draft, without those of its parts that a policy
// refuses; these go to the list. It is empty if no door is left.
func (d *draft) settle(left *leftovers) string {
	d.name()
	for {
		if len(d.doors) == 0 {
			return ""
		}
		text, parts := d.write()
		_, err := policy.Parse("", []byte(text))
		if err == nil {
			for _, dr := range d.doors {
				left.join(&dr.left)
			}
			return text
		}
		var invalid *policy.InvalidError
		if !errors.As(err, &invalid) || !d.remove(invalid, parts, left) {
			return ""
		}
	}
}

// remove takes out what the diagnostics point at, and tells whether that was
// anything.
func (d *draft) remove(invalid *policy.InvalidError, parts []part, left *leftovers) bool {
	removed := false
	gone := map[*door]bool{}
	goneAllow := map[*allowed]bool{}
	for _, diagnostic := range invalid.Diagnostics {
		p := parts[min(diagnostic.Line, len(parts))-1]
		why := elsewhere.ReplaceAllString(diagnostic.Message, "")
		switch {
		case p.door != nil && !gone[p.door]:
			gone[p.door], removed = true, true
			if p.door.section != "" {
				why = fmt.Sprintf("section [%s] is left out: %s", p.door.section, why)
			} else {
				why = "no door can be made of this: " + why
			}
			left.add(p.door.line, "%s", why)
		case p.allow != nil && !goneAllow[p.allow]:
			goneAllow[p.allow], removed = true, true
			left.add(p.allow.line, "it cannot be in allow: %s", why)
		case p.ifaces && d.interfaces != nil:
			d.interfaces, removed = nil, true
			left.add(d.ifaceLine, "it is left out: %s", why)
		}
	}
	doors := d.doors[:0:0]
	for _, dr := range d.doors {
		if !gone[dr] {
			doors = append(doors, dr)
		}
	}
	entries := d.allow[:0:0]
	for i := range d.allow {
		if !goneAllow[&d.allow[i]] {
			entries = append(entries, d.allow[i])
		}
	}
	d.doors, d.allow = doors, entries
	return removed
}

// name gives every door a name, and none to two.
func (d *draft) name() {
	taken := map[string]bool{}
	for _, dr := range d.doors {
		if dr.Name == "" {
			dr.Name = doorName(dr.Services)
		}
		base := dr.Name
		for n := 2; taken[dr.Name]; n++ {
			dr.Name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[dr.Name] = true
	}
}
