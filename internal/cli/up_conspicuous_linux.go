//go:build !(386 || arm || mips || mipsle)

package cli

import (
	"slices"

	"postern/internal/cli/ui"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// conspicuous warns of rule sets that refuse the ports beside the hidden ones in
// another way than these are refused, by which they can be told. (In closed all
// ports are covered alike, and before the others' rules. A guard whose cover is
// drop is known to show where idle ports answer.)
func conspicuous(p *policy.Policy, idle []otherrules.Idle) []ui.Remark {
	if p.Posture != policy.Guard || !p.Cover.Answers() {
		return nil
	}
	var fitting *policy.Cover
	for _, c := range policy.Covers() {
		if !slices.ContainsFunc(idle, func(i otherrules.Idle) bool { return !fits(c, i) }) {
			fitting = &c
			break
		}
	}
	var remarks []ui.Remark
	type chain struct{ table, chain string }
	said := map[chain]bool{}
	for _, i := range idle {
		at := chain{i.Table, i.Chain}
		if i.Table == "" || fits(p.Cover, i) || said[at] {
			continue
		}
		said[at] = true
		remarks = append(remarks, aboutConspicuous(i, p.Cover, fitting))
	}
	return remarks
}

// fits reports whether a cover refuses as idle ports are refused.
func fits(c policy.Cover, i otherrules.Idle) bool { return c.Answer(i.Protocol) == i.Answer }
