//go:build linux

package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestAUC(t *testing.T) {
	for _, test := range []struct {
		a, b []int64
		want float64
	}{
		{[]int64{3, 4}, []int64{1, 2}, 1},
		{[]int64{1, 2}, []int64{3, 4}, 0},
		{[]int64{1, 2, 3}, []int64{1, 2, 3}, 0.5},
		{[]int64{5, 5, 5}, []int64{5}, 0.5},
		{[]int64{2, 9}, []int64{1, 5, 9}, 3.5 / 6}, // 2 beats 1; 9 beats 1 and 5, and equals 9
	} {
		if got := auc(test.a, test.b); got < test.want-1e-9 || got > test.want+1e-9 {
			t.Errorf("auc(%v, %v) = %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

// A candidate whose signal differs by less than those of ports do among each other stands out
// if another signal has the same difference for each port.
func TestStandOut(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var all []*candidate
	for i := range 1000 {
		place := random.NormFloat64()
		c := &candidate{probe: probe{port: uint16(i)}, trials: 1}
		for s := range signals {
			c.sums[s] = place + random.NormFloat64()/100
		}
		if i == 7 {
			c.sums[0] += .2
		}
		all = append(all, c)
	}
	standOut(all, all)
	if all[0].port != 7 || all[0].distance < 10 {
		t.Errorf("port %d stands out most, by %v", all[0].port, all[0].distance)
	}
	unit := matrix{{2, 1}, {1, 3, 1}, {0, 1, 4}, {0, 0, 0, 5}}
	inverse := unit.inverse()
	for i := range signals {
		for j := range signals {
			sum := 0.0
			for k := range signals {
				sum += unit[i][k] * inverse[k][j]
			}
			if want := map[bool]float64{true: 1}[i == j]; math.Abs(sum-want) > 1e-12 {
				t.Errorf("the product has %v at %d, %d", sum, i, j)
			}
		}
	}
}
