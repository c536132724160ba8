//go:build linux

package main

import (
	"cmp"
	"math"
	"slices"
)

// auc returns the probability that a value of a is greater than one of b, plus
// half of that they are equal: the Mann-Whitney statistic divided by its
// maximum. 0.5 is what samples of the same distribution have.
func auc(a, b []int64) float64 {
	type value struct {
		ns int64
		a  bool
	}
	all := make([]value, 0, len(a)+len(b))
	for _, v := range a {
		all = append(all, value{v, true})
	}
	for _, v := range b {
		all = append(all, value{v, false})
	}
	slices.SortFunc(all, func(x, y value) int { return cmp.Compare(x.ns, y.ns) })
	rankSum := 0.0 // of a, with the mean rank for equal values
	for i := 0; i < len(all); {
		j, ofA := i, 0
		for ; j < len(all) && all[j].ns == all[i].ns; j++ {
			if all[j].a {
				ofA++
			}
		}
		rankSum += float64(ofA) * float64(i+j+1) / 2
		i = j
	}
	n, m := float64(len(a)), float64(len(b))
	return (rankSum - n*(n+1)/2) / (n * m)
}

// aucError returns the standard error of auc for two samples of the same
// distribution (Mann and Whitney 1947).
func aucError(n, m int) float64 {
	return math.Sqrt(float64(n+m+1) / (12 * float64(n) * float64(m)))
}

func median(values []int64) int64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// A matrix is a square one, for the signals of a trial.
type matrix [signals][signals]float64

// inverse returns the inverse of a positive definite matrix, by Gauss and Jordan.
func (m matrix) inverse() matrix {
	var inv matrix
	for i := range signals {
		inv[i][i] = 1
	}
	for i := range signals {
		pivot := m[i][i]
		for j := range signals {
			m[i][j] /= pivot
			inv[i][j] /= pivot
		}
		for k := range signals {
			if f := m[k][i]; k != i {
				for j := range signals {
					m[k][j] -= f * m[i][j]
					inv[k][j] -= f * inv[i][j]
				}
			}
		}
	}
	return inv
}
