//go:build linux

package stealth

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// A kind is one of nmap's ways to scan.
type kind struct {
	option string
	udp    bool
	asks   bool // its packets ask for new connections: knocks and grants count
}

var kinds = []kind{
	{option: "-sS", asks: true},
	{option: "-sA"},
	{option: "-sF"},
	{option: "-sN"},
	{option: "-sX"},
	{option: "-sM"},
	{option: "-sW"},
	{option: "-sU", udp: true, asks: true},
}

// A state is what nmap says of a port, and why.
type state struct{ State, Reason string }

// nmap scans ports of a host and returns the number of ports in each state. It tries
// again where it gets no answer: on a busy machine it may miss one.
func (n *network) nmap(t *testing.T, k kind, to netip.Addr, ports string, retries int) map[state]int {
	t.Helper()
	args := []string{k.option, "-Pn", "-n", "--reason", "--send-ip", "-T5",
		// Long enough for a busy machine, where a late answer would look like none.
		"--initial-rtt-timeout", "250ms", "--min-rtt-timeout", "250ms", "--max-retries", fmt.Sprint(retries),
		// And no faster than nmap itself can keep up with.
		"--min-rate", "5000", "--max-rate", "8000", "--host-timeout", "0", "-p", ports, "-oX", "-", to.String()}
	if to.Is6() {
		args = append(args, "-6")
	}
	out, err := n.scanner.Command(t.Context(), "nmap", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("nmap %s: %v", strings.Join(args, " "), err)
	}
	var run struct {
		Ports []struct {
			Ports []struct {
				State struct {
					State  string `xml:"state,attr"`
					Reason string `xml:"reason,attr"`
				} `xml:"state"`
			} `xml:"port"`
			Extra []struct {
				State   string `xml:"state,attr"`
				Reasons []struct {
					Reason string `xml:"reason,attr"`
					Count  int    `xml:"count,attr"`
				} `xml:"extrareasons"`
			} `xml:"extraports"`
		} `xml:"host>ports"`
	}
	if err := xml.Unmarshal(out, &run); err != nil {
		t.Fatalf("nmap %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	states := map[state]int{}
	for _, h := range run.Ports {
		for _, p := range h.Ports {
			states[state{p.State.State, p.State.Reason}]++
		}
		for _, e := range h.Extra {
			for _, r := range e.Reasons {
				states[state{e.State, r.Reason}] += r.Count
			}
		}
	}
	return states
}
