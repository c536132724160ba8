package handout

import (
	_ "embed"
	"strings"
	"text/template"

	"postern/internal/policy"
)

// The scripts are written for people to read before they run them, so what a
// door does not need is left out of its script. All that comes from a policy is
// names, numbers and addresses: nothing that either language would take for more.
var (
	//go:embed client.sh.tmpl
	shellText string
	//go:embed client.ps1.tmpl
	powerShellText string

	shell      = template.Must(template.New("client-sh").Parse(shellText))
	powerShell = template.Must(template.New("client-ps1").Parse(powerShellText))
)

// ClientSh writes a POSIX shell script that knocks at a door and runs ssh. The
// error is an *UnfitError.
func ClientSh(d *policy.Door) (string, error) { return script(shell, d) }

// ClientPowerShell writes the same for Windows PowerShell 5.1 and PowerShell 7.
// The error is an *UnfitError.
func ClientPowerShell(d *policy.Door) (string, error) { return script(powerShell, d) }

func script(t *template.Template, d *policy.Door) (string, error) {
	c, err := newClient(d)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, c)
	return b.String(), err
}
