package demo

import (
	"context"
	"fmt"
	"io"
	"time"

	"postern/internal/paragraph"
)

// Width is the number of columns that the story needs.
const Width = 78

// A Screen is where the story is printed. The zero values of Colour and Paced
// are right for a file or a pipe.
type Screen struct {
	Out    io.Writer
	Colour bool
	Paced  bool // a person is reading: pause, and count down in place
}

// The colours, as terminals know them (ECMA-48 SGR).
const (
	bold  = "1"
	red   = "1;31"
	green = "32"
	cyan  = "1;36"
)

func (s *Screen) paint(colour, text string) string {
	if !s.Colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// line prints one line of the story.
func (s *Screen) line(format string, args ...any) {
	fmt.Fprintf(s.Out, "  "+format+"\n", args...)
}

func (s *Screen) blank() { fmt.Fprintln(s.Out) }

// text prints a paragraph, broken into lines.
func (s *Screen) text(text string) {
	for _, l := range paragraph.Wrap(text, Width-2) {
		s.line("%s", l)
	}
}

// header prints the title of a step.
func (s *Screen) header(number, of int, title string) {
	s.blank()
	mark := fmt.Sprintf("[%d/%d]", number, of)
	fmt.Fprintln(s.Out, s.paint(cyan, mark)+" "+s.paint(bold, title))
}

// claim prints what was checked.
func (s *Screen) claim(c Claim) {
	mark, colour, text := "ok", green, c.Text
	if !c.OK {
		mark, colour, text = "FAILED", red, c.Text+": no, "+c.Got
	}
	for i, l := range paragraph.Wrap(text, Width-4-len(mark)) {
		if i == 0 {
			s.line("%s  %s", s.paint(colour, mark), l)
		} else {
			s.line("%*s  %s", len(mark), "", l)
		}
	}
}

// again prints over the last line.
func (s *Screen) again(text string) { fmt.Fprintf(s.Out, "\r  %-*s", Width-4, text) }

// pause waits d, if a person is reading.
func (s *Screen) pause(ctx context.Context, d time.Duration) error {
	if !s.Paced {
		return ctx.Err()
	}
	return sleep(ctx, d)
}

// sleep waits until d has passed or ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
