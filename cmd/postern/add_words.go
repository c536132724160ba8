package main

import (
	"fmt"

	"postern/internal/hosts"
)

const (
	sayNothingToAdd = "which host, or which link?"
	hintNewerLink   = "update postern here, or ask for a link from an older one"
	hintExists      = "give the new one another name, or replace the old one with --force"
	hintByHand      = "put it under \"hosts:\" by hand: "
	hintBusyHosts   = "try again; if no other postern runs, remove that file"
)

func sayExists(e *hosts.ExistsError, path string) string {
	return fmt.Sprintf("there is a host %q already, in %s:%d", e.Name, path, e.Line)
}

func sayUneditable(path string) string {
	return fmt.Sprintf("%q is valid, but not written in a way that an entry can be put into", path)
}

func (v *voice) sayAdded(a *added) {
	done := "added"
	if a.Replaced {
		done = "replaced"
	}
	v.say("%s %q in %q", done, a.Host.Name, a.File)
	v.hint(fmt.Sprintf("knock with \"postern knock %s\"", a.Host.Name))
}
