package hosts

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/document"
	"postern/internal/policy"
)

// A link says in one word how to come in:
//
//	postern://server.example:22/v1/name=ssh/knock=20914,7061:udp,icmp/
//
// After the address come the version, which says how to read all that follows,
// and parts with a name each: name and knock always, in any order; protocol,
// family and step_timeout where they are not tcp, any and 3s. It ends with a
// slash, so that a link which lost its end on the way is told from a shorter
// knock. No character in it means anything to a shell, and none needs escaping in a URL (but the
// brackets of an IPv6 address: quote those).
const (
	linkScheme  = "postern://"
	linkVersion = 1
	// What a link of version 1 means without a step_timeout, whatever the default
	// of a policy has become since the link was made.
	linkStepTimeout = 3 * time.Second
)

// hintReached is what to do about an address that is only the author's own.
const hintReached = "give an address that others reach"

// MaxLink is the length of the longest link that is read. Ours come not near it.
const MaxLink = 1024

// The parts of a link that are no settings.
const (
	partName     = "name"
	partProtocol = "protocol"
)

var linkParts = []string{partName, partProtocol, KeyFamily, KeyStepTimeout, KeyKnock}

// A NewerError says that a link is of a version that this program cannot read.
type NewerError struct{ Version string }

func (e *NewerError) Error() string {
	return fmt.Sprintf("this link is of version %s, and this postern reads version %d", document.Short(e.Version), linkVersion)
}

// IsLink tells whether a text is meant as a link, well-formed or not.
func IsLink(text string) bool {
	const scheme = "postern:"
	return len(text) >= len(scheme) && strings.EqualFold(text[:len(scheme)], scheme)
}

// Link gives the link to a host. What is the client's own affair (gap, timeout,
// user) is not in it.
func (h *Host) Link() (string, *document.Fault) {
	if f := CheckName(h.Name); f != nil {
		return "", f
	}
	if _, f := h.Check(); f != nil {
		return "", f
	}
	at := h.Address
	if a, err := netip.ParseAddr(at); err == nil {
		if a.Zone() != "" || needsZone(a) {
			return "", document.NewFault(fmt.Sprintf("address %s %s", document.Quoted(at), local), hintReached)
		}
		if a.Is6() {
			at = "[" + at + "]"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s:%d/v%d/%s=%s/", linkScheme, at, h.Service.Number, linkVersion, partName, h.Name)
	if h.Service.Protocol != policy.TCP {
		fmt.Fprintf(&b, "%s=%s/", partProtocol, h.Service.Protocol)
	}
	if h.Family != AnyFamily {
		fmt.Fprintf(&b, "%s=%d/", KeyFamily, h.Family)
	}
	if h.StepTimeout != linkStepTimeout {
		fmt.Fprintf(&b, "%s=%s/", KeyStepTimeout, document.FormatDuration(h.StepTimeout))
	}
	words := make([]string, len(h.Knock))
	for i, p := range h.Knock {
		words[i] = linkKnock(p)
	}
	fmt.Fprintf(&b, "%s=%s/", KeyKnock, strings.Join(words, ","))
	return b.String(), nil
}

// linkKnock writes a knock without a slash.
func linkKnock(p policy.Port) string {
	switch p.Protocol {
	case policy.TCP:
		return strconv.Itoa(int(p.Number))
	case policy.ICMP:
		return "icmp"
	}
	return fmt.Sprintf("%d:%s", p.Number, p.Protocol)
}

// ParseLink reads a link. The error is a *document.Fault or a *NewerError.
func ParseLink(text string) (Host, error) {
	const form = "a link is postern://ADDRESS:PORT/v1/name=NAME/knock=PORT,PORT,PORT/"
	const again = "ask for it again, and take care to copy all of it"
	wrong := func(message, hint string) (Host, error) { return Host{}, document.NewFault(message, hint) }
	switch {
	case text == "":
		return wrong("the link is empty", form)
	case !IsLink(text):
		return wrong(document.Quoted(text)+" is not a postern link", form)
	case len(text) < len(linkScheme) || !strings.EqualFold(text[:len(linkScheme)], linkScheme):
		return wrong(document.Quoted(text)+" has no // after \"postern:\"", form)
	}
	// The version before all else: a later one may have other characters, and more
	// of them.
	at, rest, found := strings.Cut(text[len(linkScheme):], "/")
	version, rest, more := strings.Cut(rest, "/")
	odd := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	switch number := strings.TrimPrefix(version, "v"); {
	case !found, version == "":
		return wrong("the link ends after its address", again)
	case number == version, strings.Trim(number, "0123456789") != "", number == "", number[0] == '0':
		return wrong(document.Quoted(version)+" is not the version of a link", form)
	case number != strconv.Itoa(linkVersion):
		return Host{}, &NewerError{number}
	case len(text) > MaxLink:
		return wrong(fmt.Sprintf("this is no link: it is longer than %d bytes", MaxLink), form)
	case odd >= 0:
		return wrong("the link has a character that none has, after "+document.Quoted(text[max(0, odd-20):odd]), again)
	case !more || rest == "", !strings.HasSuffix(rest, "/"):
		return wrong("the link has lost its end: it does not end with a /", again)
	}

	h := New("")
	h.StepTimeout = linkStepTimeout
	parts, f := h.readParts(strings.TrimSuffix(rest, "/"))
	if f != nil {
		return Host{}, f
	}
	if f := h.readAuthority(at, parts[partProtocol]); f != nil {
		return Host{}, f
	}
	for _, required := range []string{partName, KeyKnock} {
		if _, there := parts[required]; !there {
			return wrong("the link has no "+required, again)
		}
	}
	if _, f := h.Check(); f != nil {
		return Host{}, f
	}
	return h, nil
}

// readParts reads what follows the version.
func (h *Host) readParts(text string) (map[string]string, *document.Fault) {
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, "/") {
		name, value, found := strings.Cut(part, "=")
		known := slices.Contains(linkParts, name)
		switch _, twice := parts[name]; {
		case !found || !known && value == "":
			return nil, document.NewFault(fmt.Sprintf("the link has the part %s, which is not NAME=VALUE", document.Quoted(part)), "ask for it again, and take care to copy all of it")
		case !known:
			hint := "a link has " + strings.Join(linkParts, ", ")
			if near := document.Nearest(name, linkParts); near != "" {
				hint = "did you mean " + near + "?"
			}
			return nil, document.NewFault(fmt.Sprintf("the link has the part %s, which none of version %d has", document.Quoted(name), linkVersion), hint)
		case twice:
			return nil, document.NewFault("the link has "+name+" twice", "ask for it again")
		}
		parts[name] = value
		var f *document.Fault
		switch name {
		case partName:
			f = CheckName(value)
			h.Name = value
		case partProtocol:
			if value != "tcp" && value != "udp" {
				f = document.NewFault("protocol cannot be "+document.Quoted(value), "a service is tcp or udp")
			}
		case KeyKnock:
			f = h.Set(name, fromLink(value))
		default:
			f = h.Set(name, value)
		}
		if f != nil {
			return nil, document.NewFault("in the link, "+f.Message, f.Hint)
		}
	}
	return parts, nil
}

// fromLink writes the knocks of a link as they are written elsewhere.
func fromLink(text string) string {
	words := strings.Split(text, ",")
	for i, word := range words {
		if word == "icmp" {
			words[i] = "icmp/echo"
		}
	}
	return strings.Join(words, ",")
}

// readAuthority reads the address of a link, and the port after it.
func (h *Host) readAuthority(text, protocol string) *document.Fault {
	host, number := text, ""
	if colon := strings.LastIndexByte(text, ':'); colon >= 0 && !strings.HasSuffix(text, "]") {
		host, number = text[:colon], text[colon+1:]
		if number == "" {
			return document.NewFault("the link has no port after its address", fmt.Sprintf("leave the colon out to mean port %d", DefaultPort))
		}
	}
	inner, open := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	a, err := netip.ParseAddr(inner)
	switch {
	case inner == "":
		return document.NewFault("the link has no address", "it stands after postern://")
	case open != closed, open && (err != nil || !a.Is6()), !open && strings.Contains(inner, ":"):
		return document.NewFault(fmt.Sprintf("in the link, address %s is not in its brackets", document.Quoted(text)), "write an IPv6 address as in [2001:db8::1]:22")
	case err == nil && (a.Zone() != "" || needsZone(a)):
		return document.NewFault(fmt.Sprintf("in the link, address %s %s", document.Quoted(inner), local), hintReached)
	}
	if p := SplitDestination(inner); p.User != "" {
		return document.NewFault(fmt.Sprintf("in the link, address %s has a user", document.Quoted(inner)), "leave it out, and say with --user who logs in")
	}
	f := h.Set(KeyAddress, inner)
	if f == nil && (number != "" || protocol != "") {
		if number == "" {
			number = strconv.Itoa(int(h.Service.Number))
		}
		if protocol == "" {
			protocol = policy.TCP.String()
		}
		f = h.Set(KeyPort, protocol+"/"+number)
	}
	if f != nil {
		return document.NewFault("in the link, "+f.Message, f.Hint)
	}
	return nil
}
