package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
)

// TestBackendsAreKnown: a backend that is registered can be chosen by every verb
// that takes --backend, and its formats by show; help and completion name both.
func TestBackendsAreKnown(t *testing.T) {
	const file = "../../examples/howto.yaml" // which every backend can express
	all := backends.All()
	run := func(args ...string) (code int, out, err string) {
		var stdout, stderr bytes.Buffer
		s := &session{
			Voice: ui.Voice{Out: &stdout, Err: &stderr, Remarks: []ui.Remark{}},
			stdin: strings.NewReader(""), backends: all,
		}
		code = s.run(args)
		return code, stdout.String(), stderr.String()
	}
	offers := func(flag, value string, verb ...string) {
		t.Helper()
		args := append([]string{cobra.ShellCompNoDescRequestCmd}, verb...)
		_, out, _ := run(append(args, flag, "")...)
		if !strings.Contains("\n"+out, "\n"+value+"\n") {
			t.Errorf("completion of %s %s does not offer %s: %q", verb, flag, value, out)
		}
	}
	explains := func(value string, verb ...string) {
		t.Helper()
		_, out, _ := run(append(verb, "--help")...)
		if !strings.Contains(strings.Join(strings.Fields(out), " "), value) {
			t.Errorf("%s --help does not name %s", verb, value)
		}
	}
	for _, b := range all {
		for _, verb := range []string{"up", "check"} {
			offers("--backend", b.Name(), verb)
			explains(b.Name(), verb)
		}
		var checked checked
		code, out, err := run("check", "-f", file, "--backend", b.Name(), "--here=false", "--json")
		if e := json.Unmarshal([]byte(out), &checked); e != nil || code != ui.CodeDone || checked.Backend != b.Name() {
			t.Errorf("check by %s: exit code %d, %q %s", b.Name(), code, out, err)
		}
		if _, _, err := run("check", "--backend", "none"); !strings.Contains(err, b.Name()) {
			t.Errorf("an unknown backend: %q does not name %s", err, b.Name())
		}
		r, ok := b.(firewall.Renderer)
		if !ok {
			continue
		}
		for _, f := range r.Formats() {
			offers("--format", f.Name, "show")
			// Twice: in the list of the flag, and in the text, where it is explained.
			if _, out, _ := run("show", "--help"); strings.Count(out, f.Name) < 2 {
				t.Errorf("show --help does not explain %s", f.Name)
			}
			if code, out, err := run("show", "-f", file, "--format", f.Name); code != ui.CodeDone || strings.Count(out, "\n") < 10 {
				t.Errorf("show --format %s: exit code %d, %q %s", f.Name, code, out, err)
			}
		}
	}
}
