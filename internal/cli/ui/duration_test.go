package ui

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	const negative, long, noTime = "it cannot be negative", "it must be 1h or less", "write milliseconds, or a time such as 50ms or 1.5s"
	for text, want := range map[string]string{
		"0": "", "200": "200ms", "1.5": "1.5ms", "50ms": "50ms", "1h": "1h", "3600000": "1h", "1e3": "1s", "59m59s": "59m59s",
		"-1": negative, "-1s": negative, "-1ns": negative, "-Inf": negative, "-99999999999999999999": negative, "-9999999999h": negative,
		"3600001": long, "1h1ns": long, "99999999999999999999": long, "1e300": long, "1e400": long, "Inf": long, "9999999999h": long, "24h": long,
		"NaN": noTime, "": noTime, "soon": noTime, "5 s": noTime, "1d": noTime, "ms": noTime,
	} {
		d := Duration{Unit: time.Millisecond, Max: time.Hour}
		got := ""
		if err := d.Set(text); err != nil {
			got = err.Error()
		} else {
			got = d.String()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	patience := Duration{Unit: time.Second, Min: 1, Max: time.Hour}
	for text, want := range map[string]string{"0": "it must be more than 0", "-3s": "it must be more than 0", "soon": "write 5s, or 5 for seconds"} {
		if err := patience.Set(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if err := patience.Set("5"); err != nil || patience.Value != 5*time.Second {
		t.Errorf("got %v, %v", patience.Value, err)
	}
}
