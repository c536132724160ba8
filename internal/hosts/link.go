package hosts

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/document"
	"postern/internal/policy"
)

// A link is an entry of the hosts file in one word, with knocks or with a key:
//
//	postern://server.example:22/v2/name=ssh/knock=20914,7061:udp,icmp/check=Zm9vYm/
//	postern://server.example:22/v2/name=ssh/key=cG9zdGVy…/token=40123/check=Zm9vYm/
//
// The version follows the address and says how to read the rest. Then come
// parts with a name each, in any order: protocol, family and step_timeout are
// written if they are not tcp, any and 3s, and close=… if knocks close the door;
// a link with a key has neither step_timeout nor close. The others are required.
// A link ends with a slash. No character in it means anything to a shell, and
// none needs escaping in a URL, except the brackets of an IPv6 address: quote
// those.
//
// The last part is a check of all before it, so that a link with a wrong
// character is an error, and not a door that stays shut. Links of version 1 have
// knocks and no check: they can be written by hand, and a wrong knock in one is
// not noticed.
const (
	linkScheme  = "postern://"
	linkPlain   = 1 // the version of links without a check
	linkChecked = 2 // and of those that are made
	// The step_timeout of a link with knocks that names none. It does not follow
	// later changes of the policy's default.
	linkStepTimeout = 3 * time.Second
)

// hintReached is the hint for an address that is valid only on its own network.
const hintReached = "use an address that others can reach"

// MaxLink is the length of the longest link that is parsed. Real links are much
// shorter.
const MaxLink = 1024

// The parts of a link that are not settings.
const (
	partName     = "name"
	partProtocol = "protocol"
	partCheck    = "check"
)

// A linkKind is what links with something have, apart from the check.
type linkKind struct {
	with            string
	required, parts []string
}

var (
	knocksLink = linkKind{"knocks", []string{partName, KeyKnock}, []string{partName, partProtocol, KeyFamily, KeyStepTimeout, KeyKnock, KeyClose}}
	keyLink    = linkKind{"a key", []string{partName, KeyKey, KeyToken}, []string{partName, partProtocol, KeyFamily, KeyKey, KeyToken}}
)

// checkOf returns the check of a link's text before it: 36 bits.
func checkOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:6]
}

// A NewerError reports that a link has a version that this program cannot read.
type NewerError struct{ Version string }

func (e *NewerError) Error() string {
	return fmt.Sprintf("this link has version %s, but this postern reads versions %d and %d", document.Short(e.Version), linkPlain, linkChecked)
}

// IsLink reports whether a text is meant as a link, valid or not.
func IsLink(text string) bool {
	const scheme = "postern:"
	return len(text) >= len(scheme) && strings.EqualFold(text[:len(scheme)], scheme)
}

// Link returns the link to a host. The client's own settings (gap, timeout,
// user) are not part of it.
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
	fmt.Fprintf(&b, "%s%s:%d/v%d/%s=%s/", linkScheme, at, h.Service.Number, linkChecked, partName, h.Name)
	if h.Service.Protocol != policy.TCP {
		fmt.Fprintf(&b, "%s=%s/", partProtocol, h.Service.Protocol)
	}
	if h.Family != AnyFamily {
		fmt.Fprintf(&b, "%s=%d/", KeyFamily, h.Family)
	}
	if h.Key != nil {
		fmt.Fprintf(&b, "%s=%s/%s=%d/", KeyKey, h.Key.Encode(), KeyToken, h.Token)
	} else {
		if h.StepTimeout != linkStepTimeout {
			fmt.Fprintf(&b, "%s=%s/", KeyStepTimeout, document.FormatDuration(h.StepTimeout))
		}
		fmt.Fprintf(&b, "%s=%s/", KeyKnock, linkKnocksOf(h.Knock))
		if len(h.Close) > 0 {
			fmt.Fprintf(&b, "%s=%s/", KeyClose, linkKnocksOf(h.Close))
		}
	}
	fmt.Fprintf(&b, "%s=%s/", partCheck, checkOf(b.String()))
	return b.String(), nil
}

func linkKnocksOf(knocks []policy.Port) string {
	words := make([]string, len(knocks))
	for i, p := range knocks {
		words[i] = linkKnock(p)
	}
	return strings.Join(words, ",")
}

// linkKnock returns a knock without a slash.
func linkKnock(p policy.Port) string {
	switch p.Protocol {
	case policy.TCP:
		return strconv.Itoa(int(p.Number))
	case policy.ICMP:
		return "icmp"
	}
	return fmt.Sprintf("%d:%s", p.Number, p.Protocol)
}

// ParseLink parses a link. The error is a *document.Fault or a *NewerError.
func ParseLink(text string) (Host, error) {
	const form = "a link is postern://ADDRESS:PORT/v1/name=NAME/knock=PORT,PORT,PORT/"
	const again = "ask for it again, and take care to copy all of it"
	wrong := func(message, hint string) (Host, error) { return Host{}, document.NewFault(message, hint) }
	quoted := document.Quoted(text)
	if strings.Contains(text, "=") {
		quoted = "this text" // it is a link with a mistake, perhaps, and so a secret
	}
	switch {
	case text == "":
		return wrong("the link is empty", form)
	case !IsLink(text):
		return wrong(quoted+" is not a postern link", form)
	case len(text) < len(linkScheme) || !strings.EqualFold(text[:len(linkScheme)], linkScheme):
		return wrong(quoted+" has no // after \"postern:\"", form)
	}
	// The version is checked first: later versions may have other characters,
	// and more of them.
	at, rest, found := strings.Cut(text[len(linkScheme):], "/")
	version, rest, more := strings.Cut(rest, "/")
	read := linkPlain
	if version == "v"+strconv.Itoa(linkChecked) {
		read = linkChecked
	}
	odd := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	switch number := strings.TrimPrefix(version, "v"); {
	case !found, version == "":
		return wrong("the link ends after its address", again)
	case number == version, strings.Trim(number, "0123456789") != "", number == "", number[0] == '0':
		return wrong(document.Quoted(version)+" is not the version of a link", form)
	case number != strconv.Itoa(read):
		return Host{}, &NewerError{number}
	case len(text) > MaxLink:
		return wrong(fmt.Sprintf("this is not a link: it is longer than %d bytes", MaxLink), form)
	case odd >= 0 && strings.ContainsRune("\r\n", rune(text[odd])):
		return wrong(fmt.Sprintf("the link is broken after character %d", odd), "write it in one line")
	case odd >= 0:
		// What stands around it may be a secret.
		return wrong(fmt.Sprintf("character %d of the link is one that links cannot have", odd+1), again)
	case !more || rest == "", !strings.HasSuffix(rest, "/"):
		return wrong("the link has lost its end: it does not end with a /", again)
	}

	if read == linkChecked {
		before, check, found := strings.Cut(rest, "/"+partCheck+"=")
		switch {
		case !found:
			return wrong("the link has lost its end: it does not end with its check", again)
		case checkOf(text[:len(text)-len(check)-len(partCheck)-1]) != strings.TrimSuffix(check, "/"):
			return wrong("the link is not as it was made: its check does not agree", again)
		}
		rest = before
	}
	h, kind := New(""), knocksLink
	if read == linkChecked && strings.Contains("/"+rest, "/"+KeyKey+"=") {
		kind = keyLink
	} else {
		h.StepTimeout = linkStepTimeout
	}
	parts, f := h.readParts(strings.TrimSuffix(rest, "/"), kind)
	if f != nil {
		return Host{}, f
	}
	if f := h.readAuthority(at, parts[partProtocol]); f != nil {
		return Host{}, f
	}
	for _, part := range kind.required {
		if _, there := parts[part]; !there {
			return wrong("the link has no "+part, again)
		}
	}
	if _, f := h.Check(); f != nil {
		return Host{}, f
	}
	return h, nil
}

// readParts parses what follows the version, without the check.
func (h *Host) readParts(text string, of linkKind) (map[string]string, *document.Fault) {
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, "/") {
		name, value, found := strings.Cut(part, "=")
		known := slices.Contains(of.parts, name)
		switch _, twice := parts[name]; {
		case !found || !known && value == "":
			return nil, document.NewFault(fmt.Sprintf("the link has the part %s, which is not NAME=VALUE", document.Quoted(part)), "ask for it again, and take care to copy all of it")
		case !known:
			hint := "a link has " + strings.Join(of.parts, ", ")
			if near := document.Nearest(name, of.parts); near != "" {
				hint = "did you mean " + near + "?"
			}
			return nil, document.NewFault(fmt.Sprintf("the link has the part %s, which links with %s do not have", document.Quoted(name), of.with), hint)
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
		case KeyKnock, KeyClose:
			f = h.Set(name, fromLink(value))
		case KeyKey: // itself: no link says to use the one in the key store
			f = set(&h.Key, value, credential)
		default:
			f = h.Set(name, value)
		}
		if f != nil {
			return nil, document.NewFault("in the link, "+f.Message, f.Hint)
		}
	}
	return parts, nil
}

// fromLink returns the knocks of a link in the form used elsewhere.
func fromLink(text string) string {
	words := strings.Split(text, ",")
	for i, word := range words {
		if word == "icmp" {
			words[i] = "icmp/echo"
		}
	}
	return strings.Join(words, ",")
}

// readAuthority parses the address of a link and the port after it.
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
		return document.NewFault("the link has no address", "write it after postern://")
	case open != closed, open && (err != nil || !a.Is6()), !open && strings.Contains(inner, ":"):
		return document.NewFault(fmt.Sprintf("in the link, address %s has wrong brackets", document.Quoted(text)), "write an IPv6 address as in [2001:db8::1]:22")
	case err == nil && (a.Zone() != "" || needsZone(a)):
		return document.NewFault(fmt.Sprintf("in the link, address %s %s", document.Quoted(inner), local), hintReached)
	}
	if p := SplitDestination(inner); p.User != "" {
		return document.NewFault(fmt.Sprintf("in the link, address %s has a user", document.Quoted(inner)), "leave it out, and use --user")
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
