//go:build !linux

package main

import (
	"fmt"
	"runtime"
)

// thisSystem is what its users call it.
func thisSystem() string {
	if name, ok := map[string]string{"darwin": "macOS", "freebsd": "FreeBSD", "windows": "Windows"}[runtime.GOOS]; ok {
		return name
	}
	return runtime.GOOS
}

// notHere says that a verb takes a Linux kernel.
func notHere(verb string) *failure {
	return &failure{
		Code:    codeUnsupported,
		Message: fmt.Sprintf("%q needs Linux, whose kernel does the work, and this is %s", verb, thisSystem()),
		Hints: []string{
			"run it on the host that is to hide its services",
			"here a policy can be checked and shown (check, show, import, share), and hosts knocked at (add, hosts, knock, connect)",
		},
	}
}

func leftOut() remark {
	return remark{
		Message: fmt.Sprintf("this host is left out: what there is to find is in a Linux kernel, and this is %s", thisSystem()),
		Hints:   []string{"run it on the host that is to hide its services as well"},
	}
}
