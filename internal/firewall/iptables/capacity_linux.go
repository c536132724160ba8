//go:build !arm

package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A Capacity is how many senders xt_recent remembers on each of its lists. When a
// list is full, the one that was seen longest ago gives way.
type Capacity struct {
	Senders int
	Builtin bool // xt_recent is part of the kernel, and no module to load
}

// defaultSenders is what xt_recent has when it is loaded without parameters.
const defaultSenders = 100

// recentModule is where the kernel tells of xt_recent.
const recentModule = "/sys/module/xt_recent"

// ReadCapacity asks the kernel. It takes root: others get an fs.ErrPermission.
func ReadCapacity() (Capacity, error) { return readCapacity(recentModule) }

func readCapacity(module string) (Capacity, error) {
	text, err := os.ReadFile(module + "/parameters/ip_list_tot")
	if errors.Is(err, fs.ErrNotExist) { // it will be loaded with the first rule
		return Capacity{Senders: defaultSenders}, nil
	}
	if err != nil {
		return Capacity{}, fmt.Errorf("reading how many senders xt_recent remembers: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return Capacity{}, fmt.Errorf("reading how many senders xt_recent remembers: %w", err)
	}
	_, err = os.Stat(module + "/initstate") // only modules have one
	return Capacity{n, errors.Is(err, fs.ErrNotExist)}, nil
}
