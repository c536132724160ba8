//go:build linux && !(386 || arm || mips || mipsle)

package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/policy"
)

// What check finds on this host.

const hintKnockInUse = "choose a port that nothing listens on"

func sayKnockInUse(p policy.Port) string {
	return fmt.Sprintf("a program on this host listens on %s: whoever uses it knocks", p)
}

func aboutUnlisted(ports []string) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("programs on this host listen on %s, which allow does not list", ui.List(ports)),
		Hints:   []string{"list what clients use, or a connection to it spoils the knock that its sender is at"},
	}
}
