package preflight

import (
	"fmt"
	"runtime"

	"postern/internal/paragraph"
)

// hostLeftOut says that this system has none of the rules that a policy is about.
func hostLeftOut() Finding {
	system := map[string]string{"linux": "32-bit Linux", "darwin": "macOS", "freebsd": "FreeBSD", "windows": "Windows"}[runtime.GOOS]
	if system == "" {
		system = runtime.GOOS
	}
	return Finding{
		Kind:     NotChecked,
		Severity: Note,
		Message:  fmt.Sprintf("this host is not checked: the rules run on 64-bit Linux, and this is %s", system),
		Hints:    []string{"check the policy on the host that hides its services as well"},
	}
}

// notChecked says what could not be read.
func (f *facts) notChecked() []Finding {
	var found []Finding
	if len(f.denied) > 0 {
		found = append(found, Finding{
			Kind:     NotChecked,
			Severity: Note,
			Message:  fmt.Sprintf("not checked, because only root can read them: %s", paragraph.List(f.denied)),
			Hints:    []string{"repeat as root for the whole answer"},
		})
	}
	for _, err := range f.failed {
		found = append(found, Finding{Kind: NotChecked, Severity: Warning, Message: fmt.Sprintf("part of this host is not checked: %v", err), Hints: hintOf(err)})
	}
	return found
}
