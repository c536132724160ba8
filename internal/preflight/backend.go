package preflight

import (
	"errors"
	"fmt"

	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
)

// backendRefusal returns why the backend could not load anything here. ("up" has
// failed by then, with this error.)
func (f *facts) backendRefusal() []Finding {
	if f.refusal == nil {
		return nil
	}
	return []Finding{{Kind: BackendUnusable, Severity: Error, Message: f.refusal.Error(), Hints: hintOf(f.refusal)}}
}

// otherBackend warns of a backend that cannot be read. Two rule sets that judge
// each knock let nobody in.
func (f *facts) otherBackend() []Finding {
	if f.unread == nil {
		return nil
	}
	return []Finding{{
		Kind:     OtherBackendUnread,
		Severity: Warning,
		Message:  fmt.Sprintf("another backend may have rules loaded as well: %v", f.unread),
		Hints:    hintOf(f.unread),
	}}
}

// unnamedBackend warns of a backend that the policy does not name: what loads the
// policy without being told, as a reboot does, takes another one.
func (f *facts) unnamedBackend() []Finding {
	named, b := f.machine.Policy.Backend, f.backend
	if named == "" {
		named = policy.Backend(backends.Default().Name())
	}
	if string(named) == b.Name() {
		return nil
	}
	line := fmt.Sprintf("write \"backend: %s\" at the top level of the policy", b.Name())
	if f.machine.Policy.Backend == "" {
		return []Finding{{
			Kind:     BackendUnnamed,
			Severity: Warning,
			Message:  fmt.Sprintf("the policy does not name the %s backend: where nothing is loaded, up takes %s", b.Name(), named),
			Hints:    []string{line},
		}}
	}
	return []Finding{{
		Kind:     BackendUnnamed,
		Severity: Warning,
		Message:  fmt.Sprintf("this is for the %s backend, and the policy names %s: a reboot loads that", b.Name(), named),
		Hints:    []string{line + ", or leave out --backend"},
	}}
}

// backendAdvice returns what the backend itself knows of this host.
func (f *facts) backendAdvice() []Finding {
	var found []Finding
	for _, a := range f.advice {
		found = append(found, Finding{Kind: BackendLimits, Severity: Warning, Message: a.Message, Hints: a.Hints})
	}
	return found
}

// hintOf returns what an error says to do about it.
func hintOf(err error) []string {
	var unsupported *firewall.UnsupportedError
	if errors.As(err, &unsupported) {
		return []string{unsupported.Hint}
	}
	return nil
}
