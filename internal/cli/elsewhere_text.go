//go:build !linux || 386 || arm || mips || mipsle

package cli

import (
	"fmt"

	"postern/internal/cli/ui"
)

func leftOut() ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("this host is left out: what there is to find is in the kernel of a 64-bit Linux, and this is %s", thisSystem()),
		Hints:   []string{"run it on the host that is to hide its services as well"},
	}
}
