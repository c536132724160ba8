//go:build linux

// Command copy measures what Postern costs a large copy by ssh: the same file,
// to and from a server that requires knocks for each copy, and one that
// requires none.
//
// All copies take turns, so that other load on the machine affects them
// equally, and the medians are compared. Client, server and all programs
// between them share the processors here; between two machines each end has its
// own.
package main

import (
	"context"
	"flag"
	"os"

	"postern/bench"
)

func main() {
	size := flag.Int64("size", 1<<30, "how many bytes to copy")
	rounds := flag.Int("rounds", 5, "how often each copy is made")
	megabits := flag.Int("mbit", 0, "how many megabits a second the network carries; 0: as many as the machine does")
	program := flag.String("postern", "", "a postern to measure, instead of building one")
	flag.Parse()
	bench.Main("copy", func(ctx context.Context) error {
		return run(ctx, *size, *rounds, *megabits, *program, os.Stdout)
	})
}
