package cli

import "fmt"

const flagPass = "hand the connection over on standard output, and end: for ssh's ProxyUseFdpass"

func nobodyToReceive() *failure {
	return &failure{
		Code: codeUsage, Message: "--fdpass: standard output is no socket that could take a connection",
		Hints: []string{"it is for ssh with \"ProxyUseFdpass yes\": elsewhere, leave it out"},
	}
}

func notHandedOver(err error) *failure {
	return &failure{Code: codeFailed, Message: fmt.Sprintf("the connection stands, and cannot be handed over: %v", err), err: err}
}
