package hosts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
	"postern/internal/key"
	"postern/internal/policy"
)

// IfExists says what to do if the file has a host of the new one's name.
type IfExists int

const (
	FailIfExists    IfExists = iota // fail with an *ExistsError
	ReplaceIfExists                 // replace it
)

// An ExistsError reports that the file has a host of that name.
type ExistsError struct {
	Name string
	Line int
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("host %s already exists, on line %d", document.Quoted(e.Name), e.Line)
}

// An UneditableError reports that a file is valid, but that With cannot add an
// entry to it: it is written in braces, for example.
type UneditableError struct {
	Entry string // one line to add under "hosts:" by hand
}

func (e *UneditableError) Error() string {
	return "cannot add the entry to a file in this format"
}

// preface is the beginning of a new file.
const preface = `# The hosts that postern knocks at. Knocks and keys are secrets: keep this file to
# yourself. They hide a service; they do not replace its authentication.
version: 1

hosts:
`

// With returns the text of the file with a host added, or replaced if on says
// so. Everything else stays the same, byte for byte.
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
	want := slices.Clone(f.Hosts)
	if old != nil {
		want[slices.IndexFunc(want, func(o Host) bool { return o.Name == h.Name })] = h
	} else {
		want = append(want, h)
	}
	if !becomes(text, want) {
		return nil, &UneditableError{h.inBraces()}
	}
	return f.bytes(text), nil
}

// Without returns the text of the file without a host that it has. Everything else
// stays the same, byte for byte; a comment that only the host's own lines are under
// stays, too.
func (f *File) Without(h *Host) ([]byte, error) {
	e := &edit{lines: slices.Collect(strings.Lines(f.text))}
	e.lines = slices.Delete(e.lines, h.Pos.Line-1, e.ends(h.Pos))
	if at := f.list.Key.Line - 1; len(f.Hosts) == 1 && at < len(e.lines) { // nothing may be under it
		e.lines = slices.Delete(e.lines, at, at+1)
	}
	text := strings.Join(e.lines, "")
	if !becomes(text, slices.DeleteFunc(slices.Clone(f.Hosts), func(o Host) bool { return o.Name == h.Name })) {
		return nil, &UneditableError{}
	}
	return f.bytes(text), nil
}

// bytes returns a text of the file, with the byte order mark that it had.
func (f *File) bytes(text string) []byte {
	if f.marked {
		text = "\ufeff" + text
	}
	return []byte(text)
}

// becomes reports whether a text means some hosts. YAML has more forms than an editor
// of lines knows.
func becomes(text string, want []Host) bool {
	got, err := Parse("", []byte(text))
	return err == nil && slices.EqualFunc(want, got.Hosts, Host.same)
}

// same compares hosts without their positions.
func (h Host) same(o Host) bool {
	return h.Name == o.Name && h.Address == o.Address && h.Service == o.Service && slices.Equal(h.Knock, o.Knock) && slices.Equal(h.Close, o.Close) &&
		h.Stored == o.Stored && h.Entry == o.Entry && (h.Stored || sameKey(h.Key, o.Key)) && h.Token == o.Token &&
		h.StepTimeout == o.StepTimeout && h.Gap == o.Gap && h.Timeout == o.Timeout && h.Family == o.Family && h.User == o.User
}

func sameKey(a, b *key.Credential) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// entry returns the host as an entry of the file.
func (h *Host) entry(indent int, end string) string {
	var b strings.Builder
	in := strings.Repeat(" ", indent)
	b.WriteString(in + plain(h.Name) + ":" + end)
	for _, s := range h.Settings() {
		b.WriteString(in + "  " + s.Key + ": " + s.Text + end)
	}
	return b.String()
}

// inBraces returns the host as a line that fits into any file.
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

// Settings returns the host's settings as they are written in the file.
// Defaults are left out, except the port.
func (h *Host) Settings() []Setting {
	port := strconv.Itoa(int(h.Service.Number))
	if h.Service.Protocol != policy.TCP {
		port = h.Service.String()
	}
	all := []Setting{{KeyAddress, plain(h.Address)}, {KeyPort, port}}
	add := func(holds bool, key, text string) {
		if holds {
			all = append(all, Setting{key, text})
		}
	}
	if h.Key != nil {
		add(true, KeyKey, plain(h.keyText()))
		add(true, KeyToken, strconv.Itoa(int(h.Token)))
	} else {
		add(true, KeyKnock, "["+sequence(h.Knock)+"]")
		add(len(h.Close) > 0, KeyClose, "["+sequence(h.Close)+"]")
	}
	add(h.StepTimeout != policy.DefaultStepTimeout, KeyStepTimeout, document.FormatDuration(h.StepTimeout))
	add(h.Gap != 0, KeyGap, document.FormatDuration(h.Gap))
	add(h.Timeout != DefaultTimeout, KeyTimeout, document.FormatDuration(h.Timeout))
	add(h.Family != AnyFamily, KeyFamily, strconv.Itoa(int(h.Family)))
	add(h.User != "", KeyUser, plain(h.User))
	return all
}

// Sequence returns the knocks in order.
func (h *Host) Sequence() string { return sequence(h.Knock) }

// sequence returns knocks in order: "1234, udp/2345, icmp/echo".
func sequence(knocks []policy.Port) string {
	words := make([]string, len(knocks))
	for i, p := range knocks {
		if words[i] = p.String(); p.Protocol == policy.TCP {
			words[i] = strconv.Itoa(int(p.Number))
		}
	}
	return strings.Join(words, ", ")
}

// plain writes a word as YAML, in quotes if it could be read as anything but a
// word.
func plain(word string) string {
	text, err := yaml.Marshal(word)
	if err != nil {
		return strconv.Quote(word)
	}
	return strings.TrimSpace(string(text))
}

// An edit is a text that is edited by lines, each with its line end.
type edit struct {
	lines []string
	end   string // of new lines
}

// insert inserts a text before line i, counted from 0.
func (e *edit) insert(i int, text string) {
	if i > 0 && !strings.HasSuffix(e.lines[i-1], "\n") {
		e.lines[i-1] += e.end
	}
	e.lines = slices.Insert(e.lines, i, text)
}

// replace replaces the entry that begins at a position by a host. A line that
// holds only the name, and perhaps a comment, stays.
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

// ends returns the line after the entry that begins at a position. The entry
// ends where a line is not indented more than its name. Empty lines, and
// comments further to the left, belong to the next entry.
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
