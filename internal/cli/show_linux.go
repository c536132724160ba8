//go:build !arm

package cli

import (
	"postern/internal/automaton"
	"postern/internal/firewall/nftables"
	"postern/internal/policy"
)

func nftRules(p *policy.Policy, say style) (text, ruleSet string, err error) {
	m, err := automaton.Compile(p)
	if err != nil {
		return "", "", err
	}
	r := nftables.Compile(m)
	if say == commented {
		return r.Render(nftables.Commented), r.Digest(), nil
	}
	return r.Render(nftables.Plain), r.Digest(), nil
}
