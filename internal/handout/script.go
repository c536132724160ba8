package handout

import (
	_ "embed"
	"strings"
	"text/template"

	"postern/internal/policy"
)

// People should read the scripts before they run them, so a script contains
// only what its door needs. Only names, numbers and addresses come from a
// policy; neither language gives them another meaning.
var (
	//go:embed client.sh.tmpl
	shellText string
	//go:embed client.ps1.tmpl
	powerShellText string
)

// ClientSh returns a POSIX shell script that knocks at a door and runs ssh. The
// error is an *UnsupportedError.
func ClientSh(d *policy.Door) (string, error) { return script(shellText, d) }

// ClientPowerShell returns the same for Windows PowerShell 5.1 and PowerShell
// 7. The error is an *UnsupportedError.
func ClientPowerShell(d *policy.Door) (string, error) { return script(powerShellText, d) }

func script(text string, d *policy.Door) (string, error) {
	c, err := newClient(d)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = template.Must(template.New("").Parse(text)).Execute(&b, c)
	return b.String(), err
}
