package cli

import (
	"fmt"

	"postern/internal/cli/ui"
)

const flagPass = "hand the connection over on standard output, and end: for ssh's ProxyUseFdpass"

func nobodyToReceive() *ui.Failure {
	return &ui.Failure{
		Code: ui.CodeUsage, Message: "--fdpass: standard output is no socket that could take a connection",
		Hints: []string{"it is for ssh with \"ProxyUseFdpass yes\": elsewhere, leave it out"},
	}
}

func notHandedOver(err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("the connection stands, and cannot be handed over: %v", err), Err: err}
}
