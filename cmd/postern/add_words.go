package main

import (
	"fmt"

	"postern/internal/hosts"
	"postern/internal/policy"
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

func (v *voice) sayAdded(h *hosts.Host, a *added) {
	done := "added"
	if a.Replaced {
		done = "replaced"
	}
	v.say("%s %q in %q", done, h.Name, a.File)
	v.hint("come in with " + wayIn(h))
}

// wayIn is the verb to come in by: one that sees whether the door has opened, if there
// is any for such a service.
func wayIn(h *hosts.Host) string {
	switch {
	case h.Service.Protocol != policy.TCP:
		return fmt.Sprintf("\"postern knock %s\", and then the service's own client", h.Name)
	case h.Service.Number == 22 || h.User != "":
		return fmt.Sprintf("\"postern ssh %s\"", h.Name)
	}
	return fmt.Sprintf("\"postern forward %s 8080\", and any client at localhost:8080", h.Name)
}
