//go:build linux

package impair

import (
	"encoding/binary"
	"math/rand/v2"
)

// A fate is what happens to one packet.
type fate struct {
	lost      bool
	duplicate bool
	held      [2]bool // the packet, and its copy
}

// fates decides for the packets of one way, in order.
type fates struct {
	impairment Impairment
	random     *rand.Rand
}

// newFates returns the fates of way 0 or 1. The generator is one whose streams
// have nothing in common however much alike their seeds are: 1 and 2 are
// seeds that people give.
func newFates(impairment Impairment, way int) *fates {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], impairment.Seed)
	key[8] = byte(way)
	return &fates{impairment, rand.New(rand.NewChaCha8(key))}
}

// next decides for the next packet. It draws as many numbers whatever they
// are, so that a packet's fate depends on its number alone: with a higher Loss
// the same packets are lost, and some more.
func (f *fates) next() fate {
	return fate{
		lost:      f.random.Float64() < f.impairment.Loss,
		duplicate: f.random.Float64() < f.impairment.Duplicate,
		held: [2]bool{
			f.random.Float64() < f.impairment.Reorder,
			f.random.Float64() < f.impairment.Reorder,
		},
	}
}
