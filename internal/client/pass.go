package client

// A NoReceiverError reports that a connection cannot be handed over: standard output
// is no socket.
type NoReceiverError struct{}

func (e *NoReceiverError) Error() string {
	return "--fdpass: standard output is not a socket that could take a connection"
}

func (e *NoReceiverError) Hints() []string {
	return []string{"it is for ssh with \"ProxyUseFdpass yes\"; elsewhere, leave it out"}
}

// A PassError reports that handing a connection over failed.
type PassError struct{ Err error }

func (e *PassError) Error() string {
	return "connected, but cannot hand the connection over: " + cause(e.Err)
}
func (e *PassError) Unwrap() error { return e.Err }
