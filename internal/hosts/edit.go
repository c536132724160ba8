package hosts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
	"postern/internal/policy"
)

// A IfExists says what becomes of an entry that has the name of a new one.
type IfExists int

const (
	FailIfExists    IfExists = iota // the new one is refused
	ReplaceIfExists                 // the new one takes its place
)

// An ExistsError says that a host of that name is in the file.
type ExistsError struct {
	Name string
	Line int
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("there is a host %s already, on line %d", document.Quoted(e.Name), e.Line)
}

// An UneditableError says that a file is valid and yet written in a way that an
// entry cannot be put into: in braces, say.
type UneditableError struct {
	Entry string // what to put under "hosts:" by hand, in one line
}

func (e *UneditableError) Error() string {
	return "the entry cannot be put into a file written like this one"
}

// preface begins a new file.
const preface = `# The hosts that postern knocks at. The knocks are a secret: keep this file to
# yourself. They hide a service, and are no substitute for its authentication.
version: 1

hosts:
`

// With gives the text of the file with a host added to it, or put in the place
// of the one that has its name. All else stays as it is, byte for byte.
func (f *File) With(h Host, on IfExists) ([]byte, error) {
	old := f.Find(h.Name)
	if old != nil && on == FailIfExists {
		return nil, &ExistsError{old.Name, old.Pos.Line}
	}
	e := &edit{lines: slices.Collect(strings.Lines(f.text)), end: "\n"}
	if len(e.lines) > 0 && strings.HasSuffix(e.lines[0], "\r\n") {
		e.end = "\r\n"
	}
	switch {
	case strings.TrimSpace(f.text) == "":
		e.lines = []string{preface + h.entry(2, "\n")}
	case f.list == nil:
		e.insert(len(e.lines), "hosts:"+e.end+h.entry(2, e.end))
	case old != nil:
		e.replace(old.Pos, h)
	default:
		last := f.Hosts[len(f.Hosts)-1].Pos
		e.insert(e.ends(last), h.entry(last.Column-1, e.end))
	}
	text := strings.Join(e.lines, "")
	if !f.becomes(text, h) {
		return nil, &UneditableError{h.inBraces()}
	}
	if f.marked {
		text = "\ufeff" + text
	}
	return []byte(text), nil
}

// becomes tells whether a text means what the file does, with the host in it.
// YAML can be written in more ways than an editor of lines knows of.
func (f *File) becomes(text string, h Host) bool {
	got, err := Parse("", []byte(text))
	if err != nil {
		return false
	}
	want := slices.Clone(f.Hosts)
	if i := slices.IndexFunc(want, func(o Host) bool { return o.Name == h.Name }); i >= 0 {
		want[i] = h
	} else {
		want = append(want, h)
	}
	return slices.EqualFunc(want, got.Hosts, Host.same)
}

// same compares hosts, wherever they stand.
func (h Host) same(o Host) bool {
	return h.Name == o.Name && h.Address == o.Address && h.Service == o.Service && slices.Equal(h.Knock, o.Knock) &&
		h.StepTimeout == o.StepTimeout && h.Gap == o.Gap && h.Timeout == o.Timeout && h.Family == o.Family && h.User == o.User
}

// entry is the host as the file has it.
func (h *Host) entry(indent int, end string) string {
	var b strings.Builder
	in := strings.Repeat(" ", indent)
	b.WriteString(in + plain(h.Name) + ":" + end)
	for _, s := range h.Settings() {
		b.WriteString(in + "  " + s.Key + ": " + s.Text + end)
	}
	return b.String()
}

// inBraces is the host as a line that fits into any file.
func (h *Host) inBraces() string {
	words := make([]string, 0, 8)
	for _, s := range h.Settings() {
		if s.Key == KeyUser && strings.ContainsAny(s.Text, ",[]") {
			s.Text = strconv.Quote(h.User)
		}
		words = append(words, s.Key+": "+s.Text)
	}
	return plain(h.Name) + ": {" + strings.Join(words, ", ") + "}"
}

// A Setting is one line of an entry.
type Setting struct{ Key, Text string }

// Settings gives what sets the host apart, as the file has it: what is as it is
// by default is left out, but for the port.
func (h *Host) Settings() []Setting {
	port := strconv.Itoa(int(h.Service.Number))
	if h.Service.Protocol != policy.TCP {
		port = h.Service.String()
	}
	all := []Setting{{KeyAddress, plain(h.Address)}, {KeyPort, port}, {KeyKnock, "[" + h.Sequence() + "]"}}
	add := func(holds bool, key, text string) {
		if holds {
			all = append(all, Setting{key, text})
		}
	}
	add(h.StepTimeout != policy.DefaultStepTimeout, KeyStepTimeout, document.FormatDuration(h.StepTimeout))
	add(h.Gap != 0, KeyGap, document.FormatDuration(h.Gap))
	add(h.Timeout != DefaultTimeout, KeyTimeout, document.FormatDuration(h.Timeout))
	add(h.Family != AnyFamily, KeyFamily, strconv.Itoa(int(h.Family)))
	add(h.User != "", KeyUser, plain(h.User))
	return all
}

// Sequence is the knocks in order: "1234, udp/2345, icmp/echo".
func (h *Host) Sequence() string {
	words := make([]string, len(h.Knock))
	for i, p := range h.Knock {
		if words[i] = p.String(); p.Protocol == policy.TCP {
			words[i] = strconv.Itoa(int(p.Number))
		}
	}
	return strings.Join(words, ", ")
}

// plain writes a word as YAML does: in quotes if it could be taken for anything
// but a word.
func plain(word string) string {
	text, err := yaml.Marshal(word)
	if err != nil {
		return strconv.Quote(word)
	}
	return strings.TrimSpace(string(text))
}

// An edit is a text that changes by lines; each has its end.
type edit struct {
	lines []string
	end   string // of new lines
}

// insert puts a text before line i, counted from 0.
func (e *edit) insert(i int, text string) {
	if i > 0 && !strings.HasSuffix(e.lines[i-1], "\n") {
		e.lines[i-1] += e.end
	}
	e.lines = slices.Insert(e.lines, i, text)
}

// replace puts a host in the place of the entry that begins there. A line that
// holds nothing but the name, and a comment maybe, stays as it is.
func (e *edit) replace(at document.Position, h Host) {
	first, last := at.Line-1, e.ends(at)
	entry := h.entry(at.Column-1, e.end)
	if last > first+1 {
		first++
		_, entry, _ = strings.Cut(entry, "\n")
	}
	e.lines = slices.Delete(e.lines, first, last)
	e.insert(first, entry)
}

// ends gives the line after the entry that begins there: what follows is not
// indented more than its name. Empty lines, and comments further to the left,
// are the next entry's.
func (e *edit) ends(at document.Position) int {
	end := at.Line
	for i := at.Line; i < len(e.lines); i++ {
		text := strings.TrimLeft(e.lines[i], " ")
		switch inner := len(e.lines[i])-len(text) >= at.Column; {
		case strings.TrimSpace(text) == "":
		case inner:
			end = i + 1
		case !strings.HasPrefix(text, "#"):
			return end
		}
	}
	return end
}
