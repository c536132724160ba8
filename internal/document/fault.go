package document

// A Fault is what is wrong with a text, and what to write instead. It has no place:
// the text may come from a file, or from a command line.
type Fault struct {
	Message, Hint string
}

// NewFault makes a fault.
func NewFault(message, hint string) *Fault { return &Fault{Message: message, Hint: hint} }

func (f *Fault) Error() string { return f.Message + ": " + f.Hint }
