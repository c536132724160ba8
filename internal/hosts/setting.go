package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/document"
	"postern/internal/policy"
)

// The settings of a host: keys in the hosts file, and flags of "postern add".
const (
	KeyAddress     = "address"
	KeyPort        = "port"
	KeyKnock       = "knock"
	KeyClose       = "close"
	KeyKey         = "key"
	KeyToken       = "token"
	KeyStepTimeout = "step_timeout"
	KeyGap         = "gap"
	KeyTimeout     = "timeout"
	KeyFamily      = "family"
	KeyUser        = "user"
)

// Set parses text and sets one setting; knocks are separated by commas. If the
// text is wrong, nothing changes.
func (h *Host) Set(key, text string) *document.Fault {
	switch key {
	case KeyAddress:
		return set(&h.Address, text, address)
	case KeyPort:
		return set(&h.Service, text, service)
	case KeyKnock:
		return set(&h.Knock, text, knocks)
	case KeyClose:
		return set(&h.Close, text, knocks)
	case KeyKey:
		return h.setKey(text)
	case KeyToken:
		return set(&h.Token, text, token)
	case KeyStepTimeout:
		return set(&h.StepTimeout, text, within(key, policy.MinTime, policy.MaxStepTimeout))
	case KeyGap:
		return set(&h.Gap, text, within(key, time.Millisecond, time.Minute))
	case KeyTimeout:
		return set(&h.Timeout, text, within(key, 100*time.Millisecond, MaxTimeout))
	case KeyFamily:
		return set(&h.Family, text, family)
	case KeyUser:
		return set(&h.User, text, user)
	}
	return document.NewFault("unknown setting "+document.Quoted(key), "leave it out")
}

// Unset resets a setting to its default, and reports whether it has one.
func (h *Host) Unset(key string) bool {
	switch usual := New(h.Name); key {
	case KeyClose:
		h.Close = nil
	case KeyPort:
		h.Service = usual.Service
	case KeyStepTimeout:
		h.StepTimeout = usual.StepTimeout
	case KeyGap:
		h.Gap = usual.Gap
	case KeyTimeout:
		h.Timeout = usual.Timeout
	case KeyFamily:
		h.Family = usual.Family
	case KeyUser:
		h.User = usual.User
	default:
		return false
	}
	return true
}

func set[T any](to *T, text string, read func(string) (T, *document.Fault)) *document.Fault {
	value, f := read(text)
	if f == nil {
		*to = value
	}
	return f
}

func within(key string, least, most time.Duration) func(string) (time.Duration, *document.Fault) {
	return func(text string) (time.Duration, *document.Fault) {
		return document.Duration(key, text, least, most)
	}
}

// maxName keeps names short enough for tables and file names.
const maxName = 64

// CheckName returns what is wrong with a host name, or nil. A valid name needs
// no quotes in a shell and cannot be mistaken for a flag.
func CheckName(text string) *document.Fault {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }
	rest := func(r rune) bool { return letter(r) || strings.ContainsRune("-_.", r) }
	switch {
	case text == "":
		return document.NewFault("a host has no name", "write a name, as in \"home:\"")
	case len(text) > maxName:
		return document.NewFault(fmt.Sprintf("host name %s is longer than %d characters", document.Quoted(text), maxName), "give the host a shorter name")
	case !letter(rune(text[0])):
		return document.NewFault(fmt.Sprintf("host name %s does not begin with a letter or a digit", document.Quoted(text)), "begin with one of a to z or 0 to 9")
	case strings.IndexFunc(text, func(r rune) bool { return !rest(r) }) >= 0:
		return document.NewFault(fmt.Sprintf("host name %s has a character that names cannot have", document.Quoted(text)), "use only letters, digits, -, _ and .")
	}
	return nil
}

// address parses a host's address and returns an IP address in its usual form.
func address(text string) (string, *document.Fault) {
	wrong := func(message, hint string) (string, *document.Fault) {
		return "", document.NewFault(fmt.Sprintf("address %s %s", document.Quoted(text), message), hint)
	}
	const example = "write a name or an IP address, as in server.example or 192.0.2.1"
	if a, err := netip.ParseAddr(text); err == nil {
		switch {
		case a.Is4In6():
			return wrong("is an IPv4 address in IPv6 form", "write "+a.Unmap().String())
		case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return wrong("is not the address of a host", "write the address of one host")
		case needsZone(a) && a.Zone() == "":
			return wrong(local, "name the interface after it, as in "+a.String()+"%eth0")
		}
		if f := zone(a); f != nil {
			return "", f
		}
		return a.String(), nil
	}
	scheme, _, isURL := strings.Cut(text, "://")
	p := SplitDestination(text)
	switch {
	case text == "":
		return wrong("is empty", example)
	case isURL && strings.EqualFold(scheme, "postern"):
		return wrong("is a link", "add it with \"postern add LINK\"")
	case isURL, strings.Contains(text, "/"):
		return wrong("is not a host", example)
	case p.User != "" && p.Port != "":
		return wrong("has a user and a port", fmt.Sprintf("write %s alone, the user as \"user: %s\" and the port as \"port: %s\"",
			document.Short(p.Host), document.Short(p.User), document.Short(p.Port)))
	case p.User != "":
		return wrong("has a user", fmt.Sprintf("write %s alone, and the user as \"user: %s\"", document.Short(p.Host), document.Short(p.User)))
	case p.Port != "":
		return wrong("has a port", fmt.Sprintf("write %s alone, and the port as \"port: %s\"", document.Short(p.Host), document.Short(p.Port)))
	case strings.HasPrefix(text, "[") && p.Host != text:
		return wrong("has brackets", "write it without: "+document.Short(p.Host))
	case strings.Count(text, ":") > 1, strings.Trim(text, "0123456789.") == "":
		return wrong("is not an IP address", "write one in numbers, as in 192.0.2.1 or 2001:db8::1")
	}
	return hostname(text)
}

// local is the message for an address that is valid only on one network.
const local = "is valid only on one network"

// needsZone reports whether an address exists on every network, so that it
// needs an interface.
func needsZone(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// A Destination is what people write where only an address is expected.
type Destination struct{ User, Host, Port string }

// SplitDestination splits a text such as ann@home.example:22. Missing parts are
// empty, except Host.
func SplitDestination(text string) Destination {
	p := Destination{Host: text}
	if strings.Contains(text, "/") { // a URL, or a network
		return p
	}
	if user, host, found := strings.Cut(text, "@"); found && user != "" && host != "" {
		p.User, p.Host = user, host
	}
	colon := strings.LastIndexByte(p.Host, ':')
	inner, bracket := strings.CutPrefix(p.Host, "[")
	switch closed := strings.HasSuffix(inner, "]"); {
	case bracket && closed:
		p.Host = strings.TrimSuffix(inner, "]")
	case bracket && strings.Contains(inner, "]:"), strings.Count(p.Host, ":") == 1 && colon > 0:
		p.Host, p.Port = strings.Trim(p.Host[:colon], "[]"), p.Host[colon+1:]
	}
	return p
}

// zone rejects zones that cannot be interface names.
func zone(a netip.Addr) *document.Fault {
	if strings.ContainsFunc(a.Zone(), func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/"'\%[]`, r) }) {
		return document.NewFault(fmt.Sprintf("address %s has a zone that is not an interface name", document.Quoted(a.String())),
			"name an interface after the %, as in fe80::1%eth0")
	}
	return nil
}

// hostname parses a DNS name, or a name from a local hosts table, as resolvers
// accept it.
func hostname(text string) (string, *document.Fault) {
	wrong := func(message, hint string) (string, *document.Fault) {
		return "", document.NewFault(fmt.Sprintf("address %s %s", document.Quoted(text), message), hint)
	}
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	if len(text) > 253 {
		return wrong("is longer than 253 characters", "no host has so long a name: check it")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		switch odd := strings.IndexFunc(label, func(r rune) bool { return !plain(r) }); {
		case odd >= 0 && label[odd] >= 0x80:
			return wrong("has a letter beyond a to z", "write the name as the DNS has it, as in xn--bcher-kva.example")
		case odd >= 0, label == "", len(label) > 63, label[0] == '-', label[len(label)-1] == '-':
			return wrong("is not a host name", "write a name or an IP address, as in server.example or 192.0.2.1")
		}
	}
	return text, nil
}

func service(text string) (policy.Port, *document.Fault) {
	// service parses a service's port, with hints for the hosts file.
	p, f := port(policy.ParseService(text))
	if f != nil && strings.ContainsAny(text, ", -") { // where a policy has a list
		f = document.NewFault(f.Message, "write one port, as in 22, tcp/22 or udp/53")
	}
	return p, f
}

// port extracts the fault from the errors of the policy's parsers.
func port(p policy.Port, err error) (policy.Port, *document.Fault) {
	if f, ok := errors.AsType[*document.Fault](err); ok {
		return p, f
	}
	if err != nil {
		return p, document.NewFault(err.Error(), "write a port, as in 22 or udp/53")
	}
	return p, nil
}

func knocks(text string) ([]policy.Port, *document.Fault) {
	words := strings.Split(text, ",")
	if len(words) > policy.MaxKnocks {
		return nil, tooMany(len(words))
	}
	all := make([]policy.Port, 0, len(words))
	for _, word := range words {
		if word = strings.TrimSpace(word); word == "" {
			return nil, document.NewFault(fmt.Sprintf("knock %s lacks a port", document.Quoted(text)), "write the ports with commas between them, as in 1234,2345:udp,3456")
		}
		p, f := port(policy.ParsePort(word))
		if f != nil && strings.Contains(word, "-") { // where a policy has brackets
			f = document.NewFault(f.Message, "write every port on its own, as in 1234,1235,1236")
		}
		if f != nil {
			return nil, f
		}
		all = append(all, p)
	}
	return all, nil
}

func tooMany(n int) *document.Fault {
	return document.NewFault(fmt.Sprintf("there are %d knocks", n), fmt.Sprintf("a sequence has %d at most", policy.MaxKnocks))
}

func family(text string) (Family, *document.Fault) {
	hint := "write 4 for IPv4 or 6 for IPv6, or leave it out"
	switch strings.ToLower(text) {
	case "4":
		return IPv4, nil
	case "6":
		return IPv6, nil
	case "ip4", "ipv4", "inet":
		hint = "write 4"
	case "ip6", "ipv6", "inet6":
		hint = "write 6"
	}
	return 0, document.NewFault("family cannot be "+document.Quoted(text), hint)
}

// user parses the name to log in as. ssh rejects names that a shell could
// misread; rejecting them here can point at the line.
func user(text string) (string, *document.Fault) {
	wrong := func(message, hint string) (string, *document.Fault) {
		return "", document.NewFault(fmt.Sprintf("user %s %s", document.Quoted(text), message), hint)
	}
	switch {
	case text == "":
		return wrong("is empty", "write a name, or leave it out")
	case len(text) > 128:
		return wrong("is longer than 128 bytes", "write the name that you log in as")
	case text[0] == '-':
		return wrong("begins with a -", "write the name that you log in as")
	case strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r >= 0x7f && r <= 0xa0 || !strconv.IsGraphic(r) || strings.ContainsRune("'`\"\\$;&<>|(){}", r)
	}):
		return wrong("has a character that user names cannot have", "write the name that you log in as")
	}
	return text, nil
}

// A conflict is an error in the combination of two settings.
type conflict struct {
	key string // the setting to change
	*document.Fault
}

// conflicts compares the settings of a host.
func (h *Host) conflicts() []conflict {
	var all []conflict
	if a, err := netip.ParseAddr(h.Address); err == nil && h.Family != AnyFamily && a.Is4() != (h.Family == IPv4) {
		is := IPv4
		if a.Is6() {
			is = IPv6
		}
		all = append(all, conflict{KeyFamily, document.NewFault(
			fmt.Sprintf("family is %d, and address %s is IPv%d", h.Family, h.Address, is), "leave the family out: an address has but one")})
	}
	if h.Key == nil && h.Token != 0 {
		all = append(all, conflict{KeyToken, document.NewFault(
			"token is the port for a key, and this host has none", "leave it out")})
	}
	if h.Key != nil {
		const hint = "leave it out: a key takes the place of the knocks"
		if len(h.Knock) > 0 {
			all = append(all, conflict{KeyKnock, document.NewFault("there are a knock and a key", hint)})
		}
		if len(h.Close) > 0 {
			all = append(all, conflict{KeyClose, document.NewFault("close is about knocks, and there is a key", "leave it out: the key closes the door, too")})
		}
		if h.StepTimeout != policy.DefaultStepTimeout {
			all = append(all, conflict{KeyStepTimeout, document.NewFault("step_timeout is about knocks, and there is a key", hint)})
		}
		if h.Gap != 0 {
			all = append(all, conflict{KeyGap, document.NewFault("gap is about knocks, and there is a key", hint)})
		}
		return all
	}
	if h.Gap >= h.StepTimeout {
		all = append(all, conflict{KeyGap, document.NewFault(
			fmt.Sprintf("gap %s is not less than step_timeout %s", document.FormatDuration(h.Gap), document.FormatDuration(h.StepTimeout)),
			"write a shorter gap: the door would forget every knock before the next")})
	}
	if n := min(len(h.Knock), len(h.Close)); n > 0 && slices.Equal(h.Knock[:n], h.Close[:n]) {
		all = append(all, conflict{KeyClose, document.NewFault("of knock and close one begins with the other, so the longer one never comes to its end",
			"write what the server's policy has")})
	}
	if waits := h.Gap * time.Duration(max(0, len(h.Knock)-1)); waits > 0 && waits >= h.Timeout {
		all = append(all, conflict{KeyTimeout, document.NewFault(
			fmt.Sprintf("timeout %s is over before the last knock, after gaps of %s", document.FormatDuration(h.Timeout), document.FormatDuration(waits)),
			"write a longer timeout, or a shorter gap")})
	}
	return all
}

// Check returns the first missing or conflicting setting of a host and what is
// wrong with it. It is for hosts made by Set; Parse and ParseLink check theirs.
func (h *Host) Check() (key string, f *document.Fault) {
	switch {
	case h.Address == "":
		return KeyAddress, document.NewFault(fmt.Sprintf("host %s has no address", document.Quoted(h.Name)), "add its address: a name or an IP address")
	case h.Key != nil && h.Token == 0:
		return KeyToken, document.NewFault(fmt.Sprintf("host %s has no token", document.Quoted(h.Name)), "add the port that tokens go to, as in 40123")
	case h.Key == nil && len(h.Knock) == 0:
		return KeyKnock, document.NewFault(fmt.Sprintf("host %s has no knock", document.Quoted(h.Name)), "add the ports to knock at, as in 1234,2345:udp,3456")
	}
	for _, c := range h.conflicts() {
		return c.key, c.Fault
	}
	return "", nil
}
