package draft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"postern/internal/policy"
)

func tcp(n uint16) policy.Port { return policy.Port{Protocol: policy.TCP, Number: n} }
func udp(n uint16) policy.Port { return policy.Port{Protocol: policy.UDP, Number: n} }

// seeded returns random bytes that are the same in each run.
func seeded() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func TestDraw(t *testing.T) {
	random := seeded()
	avoid := func(p policy.Port) bool { return p.Number >= 32768 && p.Number <= 60999 || p.Number%2 == 0 }
	for _, n := range []int{3, 4, 8} {
		for range 30 {
			sequence, err := Draw(random, n, avoid)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range sequence {
				if avoid(p) || p.Number < firstKnock || p.Protocol != policy.TCP {
					t.Errorf("%v is to be avoided", p)
				}
			}
			if len(sequence) != n || !good(sequence) {
				t.Errorf("%v", sequence)
			}
		}
	}
}

// TestDrawIsUniform: every sequence that may be drawn is as likely as any other. Of
// six ports, the chi-squared statistic of the counts stays near its expectation.
func TestDrawIsUniform(t *testing.T) {
	var candidates []policy.Port
	for i := range uint16(6) {
		candidates = append(candidates, tcp(2000+i*apart))
	}
	const kinds = 6 * 5 * 4 * 4 / 6 // of six orders of three, two rise or fall
	const each = 1000
	counts, random := map[string]int{}, seeded()
	for range kinds * each {
		sequence, err := draw(random, 3, candidates)
		if err != nil {
			t.Fatal(err)
		}
		counts[fmt.Sprint(sequence)]++
	}
	if len(counts) != kinds {
		t.Fatalf("%d different sequences, want %d", len(counts), kinds)
	}
	chi := 0.0
	for _, n := range counts {
		chi += float64(n-each) * float64(n-each) / each
	}
	// 79 degrees of freedom: 1 in 10,000 is above 131, 1 in 10,000 below 43.
	if chi < 43 || chi > 131 {
		t.Errorf("chi-squared %.1f", chi)
	}
}

// TestBelow: the last, incomplete, multiple is thrown away.
func TestBelow(t *testing.T) {
	const n = 3 // 2^32 is 1 more than a multiple of it
	got, err := below(strings.NewReader("\xff\xff\xff\xff\xff\xff\xff\xfe"), n)
	if err != nil || got != 0xfffffffe%n {
		t.Errorf("got %d, %v", got, err)
	}
	if got, err := below(strings.NewReader("\xff\xff\xff\xff"), 4); err != nil || got != 3 {
		t.Errorf("got %d, %v", got, err)
	}
	broken := errors.New("broken")
	if _, err := below(iotest.ErrReader(broken), n); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestDrawNothing(t *testing.T) {
	for _, free := range []func(policy.Port) bool{
		func(policy.Port) bool { return true },
		func(p policy.Port) bool { return p.Number != 2000 },
		func(p policy.Port) bool { return p.Number < 2000 || p.Number > 2000+apart },
	} {
		if s, err := Draw(seeded(), 3, free); err == nil {
			t.Errorf("drew %v", s)
		}
	}
}

func TestGood(t *testing.T) {
	for _, test := range []struct {
		sequence []policy.Port
		want     bool
	}{
		{[]policy.Port{tcp(2000), tcp(9000), tcp(5000)}, true},
		{[]policy.Port{tcp(9000), tcp(2000), tcp(5000)}, true},
		{[]policy.Port{tcp(2000), tcp(5000), tcp(9000)}, false},
		{[]policy.Port{tcp(9000), tcp(5000), tcp(2000)}, false},
		{[]policy.Port{tcp(2000), tcp(9000), tcp(2000)}, false},
		{[]policy.Port{tcp(2000), tcp(9000), tcp(2000 + apart - 1)}, false},
		{[]policy.Port{tcp(2000), tcp(9000), tcp(2000 + apart)}, true},
	} {
		if got := good(test.sequence); got != test.want {
			t.Errorf("%v: %v", test.sequence, got)
		}
	}
}
