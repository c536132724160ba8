package cli

import (
	"encoding/json"
	"io"
)

// line writes an answer as one line of JSON, for verbs that go on after it.
func (v *voice) line(w io.Writer, value any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(value)
}

// troubleLine is a failure in lines of JSON.
type troubleLine struct {
	Error *failure `json:"error"`
}

// answerLines does a verb whose answers to programs are lines of JSON: so is the last one,
// if it fails.
func (v *voice) answerLines(w io.Writer, do func() error) error {
	err := do()
	if err == nil || !v.json {
		return err
	}
	f := explain(err)
	if !f.answered {
		v.line(w, troubleLine{f})
		f.answered = true
	}
	return f
}
