//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"postern/bench/machine"
	"postern/internal/lab"
)

// The directions of a copy, as commands of a client.
var directions = []struct {
	name  string
	words func(config, host, from, to string) []string
}{
	{"scp from the server", func(config, host, from, to string) []string {
		return []string{"scp", "-q", "-F", config, host + ":" + from, to}
	}},
	{"scp to the server", func(config, host, from, to string) []string {
		return []string{"scp", "-q", "-F", config, from, host + ":" + to}
	}},
	{"ssh host cat file", func(config, host, from, to string) []string {
		return []string{"sh", "-c", `exec ssh -F "$1" "$2" "cat '$3'" >"$4"`, "sh", config, host, from, to}
	}},
}

// oneCopy limits the time of one copy.
const oneCopy = 5 * time.Minute

func run(ctx context.Context, size int64, rounds, megabits int, program string, out io.Writer) error {
	if !lab.RealRoot() {
		return errors.New("sshd cannot log anyone in within a user namespace: run this as root")
	}
	// In memory if possible: the disk is not to be measured.
	memory := "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		memory = ""
	}
	folder, err := os.MkdirTemp(memory, "postern-copy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	l := lab.New()
	defer l.Close()
	s, err := newScene(ctx, l, folder, program, megabits)
	if err != nil {
		return err
	}
	sum, err := random(s.path("original"), size)
	if err != nil {
		return err
	}
	times := map[string][]time.Duration{}
	disturbed := 0
	for round := range rounds {
		for i := range hosts {
			// Another order each round, so that no host always follows the same
			// one.
			host := hosts[(i+round)%len(hosts)]
			for _, d := range directions {
				fmt.Fprintf(os.Stderr, "\rround %d of %d: %s, %s\x1b[K", round+1, rounds, d.name, host)
				words := d.words(s.path("ssh_config"), host, s.path("original"), s.path("copy"))
				took, calm, err := s.copyCalmly(ctx, words, sum)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", d.name, host, err)
				}
				if !calm {
					disturbed++
				}
				times[d.name+host] = append(times[d.name+host], took)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	network := "a network as fast as the machine"
	if megabits > 0 {
		network = fmt.Sprintf("a network of %d Mbit/s", megabits)
	}
	fmt.Fprintf(out, "A copy of %d MB by ssh over %s: medians of %d copies, which\n"+
		"took turns, and the speed as a share of that of an open server. Every copy had the SHA-256\n"+
		"of the original.\n\n", size>>20, network, rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\tserver open")
	for _, host := range hosts[1:] {
		fmt.Fprintf(w, "\t%s\tspeed", host)
	}
	fmt.Fprintln(w)
	for _, d := range directions {
		direct := median(times[d.name+open])
		fmt.Fprintf(w, "%s\t%.2fs", d.name, direct.Seconds())
		for _, host := range hosts[1:] {
			m := median(times[d.name+host])
			fmt.Fprintf(w, "\t%.2fs\t%.2f", m.Seconds(), direct.Seconds()/m.Seconds())
		}
		fmt.Fprintln(w)
	}
	if disturbed > 0 {
		fmt.Fprintf(w, "\n%d of the %d copies are of times when the host gave more than %d %% of the processors\nto others, however often they were made again.\n",
			disturbed, rounds*len(hosts)*len(directions), machine.MuchStolen)
	}
	return w.Flush()
}

// repeats is how often a copy is repeated if much of its time was stolen.
const repeats = 4

// copyCalmly copies as copy does, but repeats a copy during which the machine
// was disturbed. It reports whether the result is undisturbed.
func (s *scene) copyCalmly(ctx context.Context, words []string, sum []byte) (took time.Duration, calm bool, err error) {
	for range 1 + repeats {
		since := machine.Watch()
		if took, err = s.copy(ctx, words, sum); err != nil {
			return 0, false, err
		}
		if since().Stolen <= machine.MuchStolen {
			return took, true, nil
		}
	}
	return took, false, nil
}

// copy runs a copying command and checks the result.
func (s *scene) copy(ctx context.Context, words []string, sum []byte) (time.Duration, error) {
	if err := os.Remove(s.path("copy")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, oneCopy)
	defer cancel()
	cmd := s.command(ctx, words[0], words[1:]...)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begun)
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	f, err := os.Open(s.path("copy"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return 0, err
	}
	if !bytes.Equal(h.Sum(nil), sum) {
		return 0, errors.New("the copy is not the original")
	}
	return took, nil
}

// random fills a file with random data and returns its SHA-256.
func random(path string, size int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, h), rand.Reader, size)
	return h.Sum(nil), errors.Join(err, f.Close())
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
