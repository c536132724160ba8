package ui

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// CanAsk reports whether there is a person to ask: in is a terminal, and no program
// reads the answer.
func (v *Voice) CanAsk(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && !v.JSON && IsTerminal(file)
}

// ErrNoAnswer reports that a person ended the input instead of answering.
var ErrNoAnswer = errors.New("no answer")

// maxTries is how often a person may mistype an answer.
const maxTries = 5

// Ask asks on a terminal until take accepts the answer. Enter alone means usual, if
// there is one.
func (v *Voice) Ask(in io.Reader, question, usual string, take func(answer string) error) error {
	to := v.Err
	if file, ok := to.(*os.File); !ok || !IsTerminal(file) { // it would wait unseen
		to = in.(io.Writer)
	}
	if usual != "" {
		question += " [" + usual + "]"
	}
	var err error
	for range maxTries {
		fmt.Fprintf(to, "postern: %s ", question)
		var answer string
		if answer, err = readLine(in); err != nil {
			fmt.Fprintln(to)
			return err
		}
		if answer = strings.TrimSpace(answer); answer == "" {
			answer = usual
		}
		if err = take(answer); err == nil {
			return nil
		}
		v.Say("%s", err)
	}
	return err
}

// readLine reads a line and nothing after it, which another question may want.
func readLine(in io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		switch n, err := in.Read(b); {
		case n == 1 && b[0] == '\n':
			return string(line), nil
		case n == 1:
			line = append(line, b[0])
		case err != nil:
			return "", ErrNoAnswer
		}
	}
}
