package iptables

// An entry judges only what comes to it. Rules of others may stand before it, and
// most should stay there: what drops packets, or logs them, takes nothing from it. But
// what may let one in, or send it elsewhere, opens what it hides. A rule that accepts what
// ours have marked opens nothing there, but no packet is marked yet where it stands.

// endName is the one chain of ours that stands behind the rules of others.
const endName = prefix + "IDLE"

// mayPass reports whether packets may get past an entry of ours that stands behind
// rules of a chain of the kernel's. In POSTROUTING nothing is hidden any more.
func (l *loadedTable) mayPass(c *listedChain, before []listedRule, entry *listedRule) bool {
	if c.name == "POSTROUTING" || entry.leadsTo() == endName {
		return false
	}
	return l.lets(before, c.policy, map[string]bool{})
}

// called is the policy of a chain that is not the kernel's: what comes to its end
// goes on where it was called.
const called = "-"

// lets reports whether any of a chain's rules may end the way of a packet other than by
// dropping it. The chains that it has seen need no second look.
func (l *loadedTable) lets(rules []listedRule, policy string, seen map[string]bool) bool {
	for i := range rules {
		r := &rules[i]
		target := r.leadsTo()
		c := l.chain(target)
		switch {
		case target == "" || Ours(target):
		case c != nil && policy == "ACCEPT" && option(r.text, "-g") == target: // from its end there is no way back
			return true
		case c != nil && !seen[target]:
			seen[target] = true
			if l.lets(c.rules, called, seen) {
				return true
			}
		case c == nil && target == "RETURN":
			if policy == "ACCEPT" {
				return true
			}
		case c == nil && (!harmless[target] || l.table == "raw" && target == "MARK"): // there ours look for marks
			return true
		}
	}
	return false
}

// harmless are the targets after which a packet goes on, or ends. All others, those
// that a module from elsewhere adds too, may do anything.
var harmless = map[string]bool{
	"DROP": true, "REJECT": true, "TARPIT": true,
	"LOG": true, "NFLOG": true, "ULOG": true, "TRACE": true, "AUDIT": true, "LED": true,
	"MARK": true, "CONNMARK": true, "SET": true, "CT": true, "NOTRACK": true, "CLASSIFY": true, "IDLETIMER": true, "RATEEST": true,
}
