package nftables

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/firewall"
)

// What the kernel refuses becomes an error that says what to do. The kernel's
// words come wrapped, as the netlink libraries wrap them.
func TestRetry(t *testing.T) {
	const forever = 1 << 30
	for _, test := range []struct {
		errno unix.Errno
		times int // that the kernel says so
		want  string
		tries int // that are made; 0 for any number above 1
	}{
		{0, 0, "", 1},
		{unix.EPERM, forever, "permission", 1},
		{unix.EACCES, forever, "permission", 1},
		{unix.EPROTONOSUPPORT, forever, "unsupported", 1},
		{unix.EAFNOSUPPORT, forever, "unsupported", 1},
		{unix.EOPNOTSUPP, forever, "unsupported", 1},
		{unix.EMSGSIZE, forever, "the rule set does not fit", 1},
		{unix.EINVAL, forever, "the kernel refused the rules", 1},
		{unix.ENOMEM, forever, "the kernel refused the rules", 1},
		{unix.ERESTART, 1, "", 2},
		{unix.ENOENT, 2, "", 3},
		{unix.ERESTART, forever, "busy", 0},
		{unix.EBUSY, forever, "busy", 0},
		{unix.ENOBUFS, forever, "busy", 0},
	} {
		tries := 0
		err := retry(func() error {
			tries++
			if tries > test.times {
				return nil
			}
			return fmt.Errorf("netlink receive: %w", test.errno)
		})
		got := ""
		var (
			permission  *firewall.PermissionError
			unsupported *firewall.UnsupportedError
			busy        *firewall.BusyError
		)
		switch {
		case errors.As(err, &permission):
			got = "permission"
		case errors.As(err, &unsupported):
			got = "unsupported"
			if unsupported.Hint == "" {
				t.Errorf("%v: no hint", test.errno)
			}
		case errors.As(err, &busy):
			got = "busy"
		case err != nil:
			got = err.Error()
		}
		if got != test.want && (test.want == "" || !strings.HasPrefix(got, test.want)) {
			t.Errorf("%v: got %q, want %q", test.errno, got, test.want)
		}
		if err != nil && !errors.Is(err, test.errno) {
			t.Errorf("%v: %v does not say what the kernel said", test.errno, err)
		}
		if tries != test.tries && (test.tries != 0 || tries < 2) {
			t.Errorf("%v: %d tries, want %d", test.errno, tries, test.tries)
		}
	}
}
