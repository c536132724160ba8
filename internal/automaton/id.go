package automaton

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// identify gives each of the distinct names an id that depends on the name
// alone, so that it is the same in every policy. An id is 32 bits, neither of
// whose 16-bit halves is 0: nft then prints it like any traffic class,
// "1f3a:90c2", and reads it back.
//
// At 10,000 doors two names out of all share a hash one time in ten. Names that
// do are hashed again together with each other: both get other ids than either
// would have alone, so that neither can be taken for the other when the policy
// changes; what their sources had earned is then forgotten.
func identify(names []string) ([]uint32, error) {
	ids := make([]uint32, len(names))
	holders := make(map[uint32][]int, len(names))
	for i, name := range names {
		ids[i] = hash(name)
		holders[ids[i]] = append(holders[ids[i]], i)
	}
	const rounds = 8
	for range rounds {
		var shared [][]int
		for id, at := range holders {
			if len(at) > 1 {
				shared = append(shared, at)
				delete(holders, id)
			}
		}
		if len(shared) == 0 {
			return ids, nil
		}
		slices.SortFunc(shared, slices.Compare) // map order must not show
		for _, at := range shared {
			together := make([]string, len(at))
			for i, j := range at {
				together[i] = names[j]
			}
			slices.Sort(together)
			among := "\x00among\x00" + strings.Join(together, "\x00")
			for _, j := range at {
				names[j] += among
				ids[j] = hash(names[j])
				holders[ids[j]] = append(holders[ids[j]], j)
			}
		}
	}
	return nil, errors.New("too many names share a hash; change a knock or a timeout of one of the doors")
}

func hash(name string) uint32 {
	sum := sha256.Sum256([]byte(name))
	for {
		for b := sum[:]; len(b) >= 4; b = b[4:] {
			id := binary.BigEndian.Uint32(b)
			if id>>16 != 0 && id&0xffff != 0 && id != 0xffffffff { // ffff:ffff is "root" to nft
				return id
			}
		}
		sum = sha256.Sum256(sum[:])
	}
}
