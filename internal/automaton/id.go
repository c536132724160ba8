package automaton

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// Largest is larger than any id of a state or a grant. A backend may use it, and the
// three bits above it, for purposes of its own.
const Largest = 1<<29 - 1

// identify returns an id for each of the distinct names. An id depends on the
// name alone, so that it is the same in every policy. It is smaller than Largest,
// and neither of its 16-bit halves is 0: nft then prints it like any traffic class,
// "1f3a:90c2", and reads it back.
//
// With 10,000 doors, any two names are more likely to share a hash than not. Such names
// are hashed again together with each other. Each of them gets an id
// that it would not have alone, so that neither can be taken for the other when
// the policy changes. The progress and grants under the old ids are then lost.
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
		slices.SortFunc(shared, slices.Compare) // the result must not depend on map order
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

func hash(name string) uint32 { return idOf(sha256.Sum256([]byte(name))) }

// idOf returns the first id that there is in a hash.
func idOf(sum [sha256.Size]byte) uint32 {
	for {
		for b := sum[:]; len(b) >= 4; b = b[4:] {
			id := binary.BigEndian.Uint32(b) & Largest
			if id>>16 != 0 && id&0xffff != 0 && id != Largest {
				return id
			}
		}
		sum = sha256.Sum256(sum[:])
	}
}
