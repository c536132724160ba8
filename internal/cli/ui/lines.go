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

// failureLine is a failure as a line of JSON.
type failureLine struct {
	Error *Failure `json:"error"`
}

// AnswerLines runs a verb that answers a program with lines of JSON. If the verb
// fails, the failure is the last line.
func (v *Voice) AnswerLines(w io.Writer, do func() error) error {
	err := do()
	if err == nil || !v.JSON {
		return err
	}
	f := Explain(err)
	if !f.Answered {
		v.Line(w, failureLine{f})
		f.Answered = true
	}
	return f
}
