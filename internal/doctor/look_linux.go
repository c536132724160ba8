//go:build !(386 || arm || mips || mipsle)

package doctor

import "context"

// Look looks at all that only the doctor looks at. Others is true if other programs
// filter packets, too.
func Look(ctx context.Context, p Patient) (all []Entry, others bool) {
	if p.Scan {
		all = outside(ctx, p.Machine, p.Backend)
	}
	h, others := hooks()
	return append(all, h, conntrack(), clock(p.Machine.Policy), reboot(p.File)), others
}
