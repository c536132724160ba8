//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"postern/internal/change"
	"postern/internal/preflight"
	"postern/internal/systemd"
)

// reboot looks at whether the rules come back by themselves. The file is where the
// policy is read at boot if none has run yet.
func reboot(file string) Entry {
	e := Entry{Topic: preflight.Topic{Name: "after a reboot"}}
	first, _ := os.Readlink("/proc/1/ns/net")
	if own, err := os.Readlink("/proc/thread-self/ns/net"); err == nil && first != "" && own != first {
		e.Seen = "not asked: this is not the machine's own network namespace"
		return e
	}
	if !(systemd.Host{}).Booted() {
		e.Seen = "systemd does not run here"
		e.Findings = []preflight.Finding{{
			Kind:     NotAtBoot,
			Severity: preflight.Note,
			Message:  "whether the rules are loaded at boot is not known: systemd does not run this host",
			Hints:    []string{"have the init system run \"postern up --boot\" before the network is up (docs/boot.md)"},
		}}
		return e
	}
	for _, unit := range systemd.Units {
		if exec.Command("systemctl", "is-enabled", "--quiet", unit).Run() != nil {
			e.Findings = append(e.Findings, preflight.Finding{
				Kind:     NotAtBoot,
				Severity: preflight.Warning,
				Message:  unit + " is not enabled: after a reboot nothing is hidden until \"postern up\"",
				Hints:    []string{"run \"postern install\" (\"postern install --dry-run\" says what that does)"},
			})
			if unit != systemd.Units[0] {
				e.Findings[len(e.Findings)-1].Message = unit + " is not enabled: rules that others flush or change stay away until \"postern up\""
			}
		}
	}
	kept, err := change.Here().Read()
	e.Seen = loadsAtBoot(kept.Saved, err, file)
	return e
}

// loadsAtBoot says what is loaded where this is saved. The error is about reading that.
func loadsAtBoot(saved *change.Saved, err error, file string) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "only root can read what is loaded then"
	case saved != nil && saved.Loaded:
		return "loads what ran last, of " + saved.File + ", by " + saved.Backend
	case saved != nil:
		return "loads nothing: \"postern down\" was the last word"
	case err != nil:
		return fmt.Sprintf("loads %s, as what ran last cannot be read: %v", file, err)
	}
	return "loads " + file
}
