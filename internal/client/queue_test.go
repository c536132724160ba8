package client

import (
	"errors"
	"testing"
	"time"

	"postern/internal/policy"
)

// TestQueue has a queue of whom one destination is dead.
func TestQueue(t *testing.T) {
	q := newQueue()
	dead := Destination{Port: policy.Port{Protocol: policy.TCP, Number: 80}}
	alive := Destination{Host: "inner", Port: dead.Port}
	came := time.Now()
	var tries []Destination
	open := func(since time.Time, to Destination) error {
		_, err := q.open(t.Context(), since, to, func() (*Opened, error) {
			tries = append(tries, to)
			if to == dead {
				return nil, errors.New("dead")
			}
			return &Opened{}, nil
		})
		return err
	}
	for range 2 {
		if open(came, dead) == nil || len(tries) != 1 {
			t.Errorf("a caller who waited did not get the same error: tried %v", tries)
		}
	}
	if err := open(came, alive); err != nil || len(tries) != 2 {
		t.Errorf("another destination gets %v: tried %v", err, tries)
	}
	if open(time.Now().Add(time.Hour), dead) == nil || len(tries) != 3 {
		t.Errorf("a later caller got an old error: tried %v", tries)
	}
}
