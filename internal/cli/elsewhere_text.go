//go:build !linux || 386 || arm || mips || mipsle

package cli

import (
	"fmt"
	"runtime"

	"postern/internal/cli/ui"
)

// thisSystem is what its users call it.
func thisSystem() string {
	switch runtime.GOOS {
	case "linux":
		return "a 32-bit one"
	case "darwin":
		return "macOS"
	case "freebsd":
		return "FreeBSD"
	case "windows":
		return "Windows"
	}
	return runtime.GOOS
}

// notHere says that a verb takes a Linux kernel.
func notHere(verb string) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeUnsupported,
		Message: fmt.Sprintf("%q needs 64-bit Linux, whose kernel does the work, and this is %s", verb, thisSystem()),
		Hints: []string{
			"run it on such a host; what it hides are the services of the host that it runs on",
			"here a policy can be checked and shown (check, show, import, share), and hosts come in to (add, hosts, knock, connect, ssh, forward)",
		},
	}
}

func leftOut() ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("this host is left out: what there is to find is in the kernel of a 64-bit Linux, and this is %s", thisSystem()),
		Hints:   []string{"run it on the host that is to hide its services as well"},
	}
}
