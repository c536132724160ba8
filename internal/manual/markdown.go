package manual

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// section returns a section of a Markdown page, without its heading.
func section(page, heading string) (string, error) {
	_, rest, found := strings.Cut("\n"+page, "\n## "+heading+"\n")
	if !found {
		return "", fmt.Errorf("README.md has no section %q", heading)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body, nil
}

// markdown writes a page in the Markdown that our pages are in: headings, filled
// paragraphs, code (fenced or indented by four blanks), and lists of one level. It
// fails on a table and on a heading of a lower level, which it does not know.
func (w *writer) markdown(page string) error {
	var paragraph, items []string
	flush := func() {
		if len(paragraph) > 0 {
			w.paragraph(inline(strings.Join(paragraph, "\n")))
		}
		if len(items) > 0 {
			for i := range items {
				items[i] = inline(items[i])
			}
			w.list(items)
		}
		paragraph, items = nil, nil
	}
	lines := strings.Split(page, "\n")
	for len(lines) > 0 {
		line := lines[0]
		lines = lines[1:]
		heading, depth := headingOf(line)
		switch {
		case strings.HasPrefix(line, "```"):
			flush()
			var block []string
			for len(lines) > 0 && lines[0] != "```" {
				block, lines = append(block, lines[0]), lines[1:]
			}
			if len(lines) == 0 {
				return errors.New("a block of code does not end")
			}
			lines = lines[1:]
			w.verbatim(block)
		case strings.HasPrefix(line, "    ") && items == nil && paragraph == nil:
			block := []string{line}
			for len(lines) > 0 && strings.HasPrefix(lines[0], "    ") {
				block, lines = append(block, lines[0]), lines[1:]
			}
			w.verbatim(block)
		case strings.HasPrefix(line, "|"):
			return fmt.Errorf("a table: %q", line)
		case depth == 1: // the page has a title of its own
			flush()
		case depth == 2:
			flush()
			w.heading(heading)
		case depth == 3:
			flush()
			w.subheading(strings.ReplaceAll(heading, "`", ""))
		case depth > 3:
			return fmt.Errorf("a heading of level %d: %q", depth, line)
		case strings.HasPrefix(line, "- "):
			if paragraph != nil {
				flush()
			}
			items = append(items, line[2:])
		case line == "":
			flush()
		case items != nil:
			items[len(items)-1] += "\n" + strings.TrimLeft(line, " ")
		default:
			paragraph = append(paragraph, line)
		}
	}
	flush()
	return nil
}

// headingOf returns a heading and its level, or 0.
func headingOf(line string) (heading string, depth int) {
	rest := strings.TrimLeft(line, "#")
	if heading, ok := strings.CutPrefix(rest, " "); ok {
		return heading, len(line) - len(rest)
	}
	return "", 0
}

// span is code, a link or strong text.
var span = regexp.MustCompile("`([^`]+)`|\\[([^\\]]+)\\]\\([^)]+\\)|\\*\\*([^*]+)\\*\\*")

// inline returns a paragraph as roff. Of a link its text is left.
func inline(s string) string {
	var b strings.Builder
	for {
		at := span.FindStringSubmatchIndex(s)
		if at == nil {
			b.WriteString(text(s))
			return b.String()
		}
		b.WriteString(text(s[:at[0]]))
		switch {
		case at[2] >= 0: // a line of code must not break
			b.WriteString(bold(literal(strings.ReplaceAll(s[at[2]:at[3]], "\n", " "))))
		case at[4] >= 0:
			b.WriteString(inline(s[at[4]:at[5]]))
		default:
			b.WriteString(bold(inline(s[at[6]:at[7]])))
		}
		s = s[at[1]:]
	}
}
