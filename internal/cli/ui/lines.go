package ui

import (
	"encoding/json"
	"io"
)

// Line writes an answer as one line of JSON, for verbs that go on after it.
func (v *Voice) Line(w io.Writer, value any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(value)
}

// troubleLine is a failure in lines of JSON.
type troubleLine struct {
	Error *Failure `json:"error"`
}

// AnswerLines does a verb whose answers to programs are lines of JSON: so is the last one,
// if it fails.
func (v *Voice) AnswerLines(w io.Writer, do func() error) error {
	err := do()
	if err == nil || !v.JSON {
		return err
	}
	f := Explain(err)
	if !f.Answered {
		v.Line(w, troubleLine{f})
		f.Answered = true
	}
	return f
}
