package ui

import (
	"time"

	"postern/internal/document"
)

func sayNotTime(unit time.Duration) string {
	switch unit {
	case 0:
		return "write a number with its unit, as in 90s, 10m or 12h"
	case time.Millisecond:
		return "write milliseconds, or a time such as 50ms or 1.5s"
	}
	return "write 5s, or 5 for seconds"
}

func sayTooShort(least time.Duration) string {
	switch least {
	case 0:
		return "it cannot be negative"
	case 1:
		return "it must be more than 0"
	}
	return "it must be " + document.FormatDuration(least) + " or more"
}

func sayTooLong(most time.Duration) string {
	return "it must be " + document.FormatDuration(most) + " or less"
}
