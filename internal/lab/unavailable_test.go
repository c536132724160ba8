//go:build linux

package lab

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Each way of forbidding namespaces is told apart, and its remedy named.
func TestUnavailable(t *testing.T) {
	for _, test := range []struct {
		setting, value string
		err            error
		remedy         string
	}{
		{"user/max_user_namespaces", "0", unix.ENOSPC, "sysctl user.max_user_namespaces="},
		{"user/max_net_namespaces", "0", unix.ENOSPC, "sysctl user.max_net_namespaces="},
		{"user/max_user_namespaces", "9", unix.ENOSPC, "raise user.max_user_namespaces"},
		{"kernel/unprivileged_userns_clone", "0", unix.EPERM, "sysctl kernel.unprivileged_userns_clone=1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", unix.EACCES,
			"sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
		{"kernel/apparmor_restrict_unprivileged_userns", "0", unix.EPERM, "the capabilities SYS_ADMIN and NET_ADMIN"},
		{"", "", unix.EROFS, "--privileged"},
		{"", "", unix.EINVAL, "CONFIG_USER_NS"},
	} {
		read := func(path string) string {
			if path == test.setting {
				return test.value
			}
			return ""
		}
		err := unavailable(test.err, read)
		var e *UnavailableError
		if !errors.As(err, &e) || !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.remedy) {
			t.Errorf("%s=%s, %v: got %v, want a remedy with %q", test.setting, test.value, test.err, err, test.remedy)
		}
	}
	if err := unavailable(unix.EIO, func(string) string { return "" }); errors.As(err, new(*UnavailableError)) {
		t.Errorf("an error that says nothing about namespaces was explained: %v", err)
	}
}
