//go:build linux

package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A shape is how many rules each chain of a table has, and how many elements each
// set that only we fill. A loaded table carries that of its rule set, so that it
// shows when others have flushed, added or deleted something. (Not when a rule was
// replaced by another one.)
type shape map[string]int

func (r *Ruleset) shape() shape {
	s := shape{}
	for _, c := range r.chains {
		s["chain "+c.name] = len(c.rules)
	}
	for _, set := range r.sets {
		if !set.timeout && set != r.keys && set != r.early && set != r.told {
			s["set "+set.name] = len(set.entries())
		}
	}
	return s
}

// String is the same for equal shapes only.
func (s shape) String() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintln(sum, name, s[name])
	}
	return hex.EncodeToString(sum.Sum(nil)[:4])
}

// comment is stored in the kernel with the table.
func (r *Ruleset) comment() string {
	return digestComment + r.digest + shapeComment + r.shape().String()
}

// digestComment and shapeComment come before the digest and the shape in the
// comment of the set rule_set.
const (
	digestComment = "rule set "
	shapeComment  = ", shape "
)

// readComment is comment's reverse.
func readComment(comment string) (digest, shape string) {
	digest, shape, _ = strings.Cut(strings.TrimPrefix(comment, digestComment), shapeComment)
	return digest, shape
}
