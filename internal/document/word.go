package document

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Decimal parses a number in plain decimal digits. YAML has more notations, and
// its versions differ on what 022 means; none of them is accepted. A fault's
// hint is empty if the number is merely out of range.
func Decimal(text string, least, most int) (int, *Fault) {
	bad := &Fault{Message: Short(text) + " is out of range"}
	if text == "" || strings.Trim(text, "0123456789") != "" {
		bad.Message = Quoted(text) + " is not a plain decimal number"
		return 0, bad
	}
	if plain := strings.TrimLeft(text, "0"); len(plain) < len(text) && len(text) > 1 {
		return 0, &Fault{Message: Short(text) + " begins with a zero", Hint: "write it as " + cmp.Or(plain, "0")}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, bad
	}
	return n, nil
}

// Duration parses the time of a key, such as 3s, in whole milliseconds and
// within limits.
func Duration(key, text string, least, most time.Duration) (time.Duration, *Fault) {
	wrong := func(message, hint string) (time.Duration, *Fault) { return 0, NewFault(key+" "+message, hint) }
	limits := fmt.Sprintf("%s is from %s to %s, as in 3s or 500ms", key, FormatDuration(least), FormatDuration(most))
	d, err := time.ParseDuration(text)
	switch {
	case text != "" && strings.Trim(text, "0123456789.") == "":
		for _, unit := range []string{"s", "ms"} { // the likely unit, if the value fits
			if d, err := time.ParseDuration(text + unit); err == nil && d >= least && d <= most {
				limits = "write " + Short(text) + unit
				break
			}
		}
		return wrong(Short(text)+" has no unit", limits)
	case err != nil:
		return wrong("cannot be "+Quoted(text), "write a number with its unit, ms, s, m or h, as in 3s or 1m30s")
	case d < least:
		return wrong(Short(text)+" is too short", limits)
	case d > most:
		return wrong(Short(text)+" is too long", limits)
	case d%time.Millisecond != 0:
		return wrong(Short(text)+" is finer than a millisecond", "write "+FormatDuration(d.Round(time.Millisecond)))
	}
	return d, nil
}

// FormatDuration returns a duration without the zero units that Go prints: 1h,
// not 1h0m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
