package cli

import (
	"errors"
	"strconv"
	"time"
)

const timeoutFlag = "timeout"

// A timeout is how much time an opening has, as a flag. A number alone is of seconds, as
// ssh's ConnectTimeout has it. 0 is what the hosts file says.
type timeout time.Duration

func (t *timeout) Type() string { return "duration" }

func (t *timeout) String() string {
	if *t == 0 {
		return "" // no default to show: each host has its own
	}
	return time.Duration(*t).String()
}

func (t *timeout) Set(text string) error {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return errors.New(sayNoTimeout)
	case d <= 0:
		return errors.New(sayNoTime)
	}
	*t = timeout(d)
	return nil
}
