package cli

import (
	"fmt"

	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

const (
	sayNothingToAdd = "which host, or which link?"
	hintNewerLink   = "update postern here, or ask for a link from an older one"
	sayNoName       = "the name is empty: write one, as in \"postern add home\""
	hintExists      = "give the new one another name, or change the old one with --force"
	hintOtherName   = "file it under another name: \"postern add NAME LINK\""
	hintReplace     = "or put it in the old one's place: --force"
	hintNoFamily    = "take it out with --family \"\""
	hintByHand      = "put it under \"hosts:\" by hand: "
	hintBusyHosts   = "try again; if no other postern runs, remove that file"
)

func sayExists(e *hosts.ExistsError, path string) string {
	return fmt.Sprintf("there is a host %q already, in %s:%d", e.Name, path, e.Line)
}

func sayUneditable(path string) string {
	return fmt.Sprintf("%q is valid, but not written in a way that an entry can be put into", path)
}

func neither(arg string) error { return fmt.Errorf("%q is neither a name nor a link", arg) }

// inFlags says how to write what does not belong to an address.
func inFlags(p hosts.Parts) string {
	text := "write --address " + document.Short(p.Host)
	if p.User != "" {
		text += " --user " + document.Short(p.User)
	}
	if p.Port != "" {
		text += " --port " + document.Short(p.Port)
	}
	return text
}

func (v *voice) sayAdded(n *newcomer, path string, replaced bool) {
	done := "added"
	switch {
	case n.from == fromEntry:
		done = "changed"
	case replaced:
		done = "replaced"
	}
	v.say("%s %q in %q", done, n.Name, path)
	v.hint("come in with " + wayIn(&n.Host))
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
