package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"postern/internal/firewall"
	"postern/internal/host"
	"postern/internal/paragraph"
)

// A capacity is how many senders xt_recent remembers on each of its lists. When a
// list is full, the one that was seen longest ago is dropped.
type capacity struct {
	senders int
	builtin bool // xt_recent is part of the kernel, and no module to load
}

const (
	// enough senders are no reason for advice: it takes a flood of a million
	// packets a second to drive one out in the time between two knocks.
	enough = 65536
	// unhurried is the time between two knocks of a client far away, which waits
	// for nothing but the network.
	unhurried = 50 * time.Millisecond
)

// Advise reports how many forged knocks it takes to have xt_recent forget a client.
func (b Backend) Advise() ([]firewall.Advice, error) {
	if _, err := b.Version(); err != nil {
		return nil, err
	}
	c, err := readCapacity(recentModule)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, &firewall.PermissionError{Err: err}
	case err != nil:
		return nil, err
	}
	var all []firewall.Advice
	if c.senders < enough {
		all = append(all, c.advice())
	}
	vrfs, err := host.VRFs()
	if len(vrfs) > 0 {
		all = append(all, vrfAdvice(vrfs))
	}
	return all, err
}

// vrfAdvice is about addresses that addrtype does not look for: it knows one table only.
func vrfAdvice(vrfs []string) firewall.Advice {
	return firewall.Advice{
		Message: fmt.Sprintf("no door opens at an address in the VRF %s: iptables cannot tell that it is this host's", paragraph.List(vrfs)),
		Hints:   []string{"what is hidden there stays hidden; the nftables backend opens it, from Linux 6.16 on"},
	}
}

func (c capacity) advice() firewall.Advice {
	raise := fmt.Sprintf("write \"options xt_recent ip_list_tot=%d\" to /etc/modprobe.d/xt_recent.conf, and load the module anew or boot", enough)
	if c.builtin {
		raise = fmt.Sprintf("add \"xt_recent.ip_list_tot=%d\" to the kernel's command line, and boot", enough)
	}
	return firewall.Advice{
		Message: fmt.Sprintf("xt_recent remembers %d senders at each knock: %d forged first knocks a second keep out every client whose knocks are %v apart",
			c.senders, c.senders*int(time.Second/unhurried), unhurried),
		Hints: []string{raise, "the nftables backend remembers a million"},
	}
}

// defaultSenders is what xt_recent has when it is loaded without parameters.
const defaultSenders = 100

// recentModule is where the kernel describes xt_recent.
const recentModule = "/sys/module/xt_recent"

// readCapacity asks the kernel. It takes root: others get an fs.ErrPermission.
func readCapacity(module string) (capacity, error) {
	text, err := os.ReadFile(module + "/parameters/ip_list_tot")
	if errors.Is(err, fs.ErrNotExist) { // it will be loaded with the first rule
		return capacity{senders: defaultSenders}, nil
	}
	if err != nil {
		return capacity{}, fmt.Errorf("reading how many senders xt_recent remembers: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return capacity{}, fmt.Errorf("reading how many senders xt_recent remembers: %w", err)
	}
	_, err = os.Stat(module + "/initstate") // only modules have one
	return capacity{n, errors.Is(err, fs.ErrNotExist)}, nil
}
