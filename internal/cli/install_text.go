package cli

import (
	"postern/internal/cli/ui"
	"postern/internal/systemd"
)

const (
	shortInstall = "have systemd load the rules at boot, and watch them"
	longInstall  = `Writes units for systemd and enables them:

  postern.service           loads the policy that ran last before any network
                            is up
  postern-watchdog.service  loads the rules again when another program has
                            removed or modified them ("postern watchdog")
  drop-ins for nftables, ufw, netfilter-persistent, firewalld and iptables
                            so that the rules are back when "systemctl reload"
                            of one of these returns

It loads no policy: "postern up" does. Files in the place of these that Postern
has not written are left alone, and are an error. Where a package has brought
the units, they are only enabled. Other init systems are in docs/boot.md.`
	exampleInstall = `  postern install --dry-run
  postern install`
	flagDryRun = "print the files and commands, and do nothing"

	sayInstalled = "what \"postern up\" loads is loaded again at each boot, and when other programs remove it"

	hintNoSystemd     = "docs/boot.md says what to do with OpenRC and other init systems"
	hintForeign       = "if it loads Postern's rules, disable it and move it away; then repeat"
	hintHidden        = "copy it to /usr/local/bin, and run it from there"
	hintInstallAsRoot = "run it as root, for example with sudo"
)

// printedOnly says of a plan that it cannot be carried out here.
func printedOnly() ui.Remark {
	return ui.Remark{Message: systemd.ErrNoSystemd.Error() + ": without --dry-run this is refused", Hints: []string{hintNoSystemd}}
}
