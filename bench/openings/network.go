//go:build linux

package main

import (
	"fmt"
	"time"

	"postern/internal/lab/impair"
)

// delay is the one-way delay of a packet: the round trip is that between Europe
// and the east of North America.
const delay = 40 * time.Millisecond

// A network is the link between a client and a server: percentages of packets,
// each way.
type network struct{ loss, reorder, duplicate int }

// networks returns all networks of the table.
func networks() []network {
	var all []network
	for _, loss := range []int{0, 1, 5, 10} {
		for _, reorder := range []int{0, 10, 30} {
			for _, duplicate := range []int{0, 2} {
				all = append(all, network{loss, reorder, duplicate})
			}
		}
	}
	return all
}

func (n network) String() string { return fmt.Sprintf("%d/%d/%d", n.loss, n.reorder, n.duplicate) }

// impairment returns the network for the lab, with another random seed for each
// stand. Reordered packets are delayed by a quarter more: 10 ms.
func (n network) impairment(stand int) impair.Impairment {
	share := func(percent int) float64 { return float64(percent) / 100 }
	return impair.Impairment{
		Delay: delay, Loss: share(n.loss), Reorder: share(n.reorder), Duplicate: share(n.duplicate),
		Seed: uint64(1 + stand),
	}
}
