package ui

import (
	"errors"
	"math"
	"strconv"
	"time"

	"postern/internal/document"
	"postern/internal/lazyregexp"
)

// A Duration is a flag whose value is a time with bounds. A number without a unit
// counts in the flag's own, if it has one.
type Duration struct {
	Value    time.Duration // until it is set, the default
	Unit     time.Duration // time.Millisecond or time.Second; 0: it must be written
	Min, Max time.Duration
}

func (d *Duration) Type() string { return "duration" }

// String is empty where there is no default to show.
func (d *Duration) String() string {
	if d.Value == 0 {
		return ""
	}
	return document.FormatDuration(d.Value)
}

func (d *Duration) Set(text string) error {
	value, ok := d.parse(text)
	switch {
	case !ok:
		return errors.New(sayNotTime(d.Unit))
	case value < d.Min:
		return errors.New(sayTooShort(d.Min))
	case value > d.Max:
		return errors.New(sayTooLong(d.Max))
	}
	d.Value = value
	return nil
}

// oneTime is a number with a unit. What has this form and is no time.Duration is
// larger than any.
var oneTime = lazyregexp.New(`^(-?)[0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h)$`)

// parse reads a time; one that is out of a Duration's range becomes the largest, or
// the least.
func (d *Duration) parse(text string) (value time.Duration, ok bool) {
	if value, err := time.ParseDuration(text); err == nil {
		return value, true
	}
	number, err := strconv.ParseFloat(text, 64)
	if form := oneTime().FindStringSubmatch(text); form != nil {
		number, err = math.Inf(1), nil
		if form[1] != "" {
			number = math.Inf(-1)
		}
	}
	if d.Unit == 0 && oneTime().FindStringSubmatch(text) == nil || math.IsNaN(number) || err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	switch exact := number * float64(max(d.Unit, 1)); {
	case exact >= math.MaxInt64:
		return math.MaxInt64, true
	case exact <= math.MinInt64:
		return math.MinInt64, true
	default:
		return time.Duration(exact), true
	}
}
