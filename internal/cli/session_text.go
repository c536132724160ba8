package cli

import (
	"fmt"
	"strings"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/firewall/backends"
)

func flagBackend(all []string) string {
	return fmt.Sprintf("the `BACKEND` that runs the policy: %s (default the policy's, or else the one that has rules loaded, or %s)",
		strings.Join(all, " or "), all[0])
}

func unknownBackend(name string, all []string) error {
	return fmt.Errorf("unknown backend %q; the backends are %s", name, ui.List(all))
}

func sayUnreadable(file string, err error) string {
	return fmt.Sprintf("cannot read the policy %s: %v", document.QuotedPath(file), err)
}

const hintNoPolicy = "\"postern init\" writes one; or name another file with -f"

const sayWhichHost = "which host? \"postern hosts\" lists them"

const hintReadPolicy = "run it as root, or let this user read the file"

func notInspected(err error) ui.Remark {
	return ui.Remark{Message: fmt.Sprintf("another backend may have rules loaded as well: %v", err)}
}

// waitingFor says why nothing happens.
func waitingFor(holder int) string {
	if holder == 0 {
		return "another postern is changing the rules; waiting for it"
	}
	return fmt.Sprintf("another postern (process %d) is changing the rules; waiting for it", holder)
}

// keptUnread warns that the saved policy cannot be read.
func keptUnread(err error) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("what was saved of the rules that ran last cannot be read: %v", err),
		Hints:   []string{"\"postern up\" saves the policy again"},
	}
}

// notKept says that nothing is saved on this host.
func notKept(err error) ui.Remark {
	return ui.Remark{Note: true, Message: fmt.Sprintf("no copy of the policy is saved, so it cannot be loaded again without its file: %v", err)}
}

// twoBackends warns of what "postern up" leaves behind if it is killed.
func twoBackends(all []backends.Answer) ui.Remark {
	var names []string
	for _, r := range all {
		names = append(names, r.Name())
	}
	return ui.Remark{
		Message: fmt.Sprintf("rules of several backends are loaded: %s; this shows the first", ui.List(names)),
		Hints:   []string{"\"postern up\" removes all but those of its --backend"},
	}
}

func exposed(path string) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("other users can read %s, and the secrets in it", document.QuotedPath(path)),
		Hints:   []string{fmt.Sprintf("chmod 600 %q", path)},
	}
}
