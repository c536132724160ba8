package document

// A Fault says what is wrong with a text and what to write instead. It has no
// position: the text may come from a file or from a command line.
type Fault struct {
	Message, Hint string
}

// NewFault returns a fault.
func NewFault(message, hint string) *Fault { return &Fault{Message: message, Hint: hint} }

func (f *Fault) Error() string { return f.Message + ": " + f.Hint }
