//go:build linux

package main

import "testing"

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
