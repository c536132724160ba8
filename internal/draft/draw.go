package draft

import (
	"encoding/binary"
	"fmt"
	"io"

	"postern/internal/policy"
)

// DefaultKnocks is how many knocks are drawn. Three of some 36,000 ports are
// enough against guessing; more do not help against watching.
const DefaultKnocks = 3

// The ports that knocks are drawn from. Those below are of well-known services.
const (
	firstKnock = 1024
	lastKnock  = 65535

	// Knocks are further apart than a scan can be ahead of the host's judgement.
	apart = 512
)

// Draw returns n TCP ports to knock at, in order. Each sequence is as likely as any
// other of ports that avoid does not report, of which no two are near each other,
// and which neither rise nor fall all the way, as a scan does. Random is the source
// of random bytes.
func Draw(random io.Reader, n int, avoid func(policy.Port) bool) ([]policy.Port, error) {
	var candidates []policy.Port
	for number := firstKnock; number <= lastKnock; number++ {
		if p := (policy.Port{Protocol: policy.TCP, Number: uint16(number)}); !avoid(p) {
			candidates = append(candidates, p)
		}
	}
	return draw(random, n, candidates)
}

// tries is far more than it takes while one sequence of a hundred is good.
const tries = 10_000

// draw draws all the knocks anew until they are good, which leaves every good
// sequence equally likely.
func draw(random io.Reader, n int, candidates []policy.Port) ([]policy.Port, error) {
	for range tries {
		sequence := make([]policy.Port, n)
		for i := range sequence {
			at, err := below(random, uint32(len(candidates)))
			if err != nil {
				return nil, fmt.Errorf("drawing the knocks: %w", err)
			}
			sequence[i] = candidates[at]
		}
		if good(sequence) {
			return sequence, nil
		}
	}
	return nil, fmt.Errorf("no %d of %d free ports make a sequence of knocks", n, len(candidates))
}

// good reports whether no two knocks are near each other, and whether they go up
// and down.
func good(sequence []policy.Port) bool {
	rises, falls := 0, 0
	for i, p := range sequence {
		for _, q := range sequence[:i] {
			if max(p.Number, q.Number)-min(p.Number, q.Number) < apart {
				return false
			}
		}
		if i > 0 && p.Number > sequence[i-1].Number {
			rises++
		} else if i > 0 {
			falls++
		}
	}
	return len(sequence) < 3 || rises > 0 && falls > 0
}

// below returns a random number below n, each as likely as any other.
func below(random io.Reader, n uint32) (uint32, error) {
	if n == 0 {
		return 0, fmt.Errorf("no port is free")
	}
	// What is above the last multiple of n would favour small numbers.
	limit := (1 << 32) / uint64(n) * uint64(n)
	for {
		var b [4]byte
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return 0, err
		}
		if drawn := binary.BigEndian.Uint32(b[:]); uint64(drawn) < limit {
			return drawn % n, nil
		}
	}
}
