package policy

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
	"postern/internal/lazyregexp"
)

// Format returns the YAML text of a policy, laid out as a person would write
// it. Defaults are left out. Parse returns the same policy for the text, except
// for positions.
func Format(p *Policy) string {
	keys, users, doors, admitted, source, log := inline(), block(), block(), inline(), inline(), inline()
	keys.unless(!p.HasKeys(), "port", p.Keys.Port.format())
	keys.unless(!p.HasKeys() || p.Keys.Bound == DefaultBound, "address", word(p.Keys.Bound))
	for i := range p.Users {
		users.add(p.Users[i].Name, p.Users[i].format())
	}
	for i := range p.Doors {
		doors.add(p.Doors[i].Name, p.Doors[i].format())
	}
	admitted.unless(p.Admitted.Mark == 0, "mark", plain(p.Admitted.Mark.String()))
	source.unless(p.Source.IPv4 == DefaultSourceIPv4, "ipv4", number(p.Source.IPv4))
	source.unless(p.Source.IPv6 == DefaultSourceIPv6, "ipv6", number(p.Source.IPv6))
	log.unless(p.Log.Target == DefaultLogTarget, "target", word(p.Log.Target))
	log.unless(p.Log.Group == 0, "group", number(int(p.Log.Group)))
	log.unless(!p.Log.Progress, "progress", plain("true"))

	top := block()
	top.add("version", number(1))
	top.add("posture", word(p.Posture))
	top.unless(len(p.Interfaces) == 0, "interfaces", list(p.Interfaces, word))
	top.unless(p.Cover == p.Posture.DefaultCover(), "cover", word(p.Cover))
	top.unless(p.EarlyDrop, "early_drop", plain("false"))
	allow := list(p.Allow, Allow.format)
	allow.Style = 0
	top.unless(len(p.Allow) == 0, "allow", allow)
	top.unless(!p.HasKeys(), "keys", keys.node())
	top.unless(len(p.Users) == 0, "users", users.node())
	top.add("doors", doors.node())
	top.unless(len(admitted.Content) == 0, "admitted", admitted.node())
	top.unless(len(source.Content) == 0, "source", source.node())
	top.unless(len(log.Content) == 0, "log", log.node())
	top.unless(p.Backend == "", "backend", word(p.Backend))

	text, err := yaml.Dump(top.node(), yaml.WithIndent(2), yaml.WithCompactSeqIndent(false),
		yaml.WithLineWidth(-1), yaml.WithQuotePreference(yaml.QuoteDouble))
	if err != nil {
		// Strings in lists and mappings give the writer no reason to fail.
		panic("policy: the YAML writer failed: " + err.Error())
	}
	spaced := section().ReplaceAllString(string(text), "\n$0")
	return strings.Replace(spaced, "\ndoors:\n\n", "\ndoors:\n", 1)
}

// A section begins with one of these keys, or with the name of a door.
var section = lazyregexp.New(`(?m)^(allow:|keys:|users:|doors:|admitted:|source:|log:|backend:|  [^ -].*:$)`)

func (a Allow) format() *yaml.Node {
	m := inline()
	m.unless(a.Service == Service{}, "service", word(a.Service.String()))
	m.unless(!a.From.IsValid(), "from", prefix(a.From))
	m.unless(a.Interface == "", "interface", word(a.Interface))
	if len(m.Content) == 2 {
		m.Style = 0 // "- service: tcp/443"
	}
	return m.node()
}

func (u *User) format() *yaml.Node {
	m := inline()
	m.add("devices", list(u.Devices, word))
	m.unless(len(u.Networks) == 0, "networks", list(u.Networks, prefix))
	m.unless(u.Until.IsZero(), "until", plain(FormatUntil(u.Until)))
	return m.node()
}

func (d *Door) format() *yaml.Node {
	m, services := block(), list(d.Services, Port.format)
	if len(d.Services) == 1 {
		services = d.Services[0].format()
	}
	m.add("service", services)
	m.unless(!d.Address.IsValid(), "address", word(d.Address.String()))
	m.unless(!d.Forward.IsValid(), "forward", word(d.Forward.String()))
	m.unless(!d.Masquerade, "masquerade", plain("true"))
	m.add("knock", d.Knock.format())
	m.unless(d.OpenFor == DefaultOpenFor, "open_for", duration(d.OpenFor))
	m.unless(d.Admit == DefaultAdmit, "admit", word(d.Admit))
	m.unless(!d.Forfeit, "forfeit", plain("true"))
	m.unless(d.OnClose == DefaultOnClose, "on_close", word(d.OnClose))
	m.unless(len(d.From) == 0, "from", list(d.From, prefix))
	return m.node()
}

func (k *Knock) format() *yaml.Node {
	m := block()
	knock := func(p Port) *yaml.Node {
		if p.Protocol == TCP {
			return number(int(p.Number))
		}
		return p.format()
	}
	m.unless(len(k.Sequence) == 0, "sequence", list(k.Sequence, knock))
	m.unless(len(k.Close) == 0, "close", list(k.Close, knock))
	m.unless(len(k.Users) == 0, "key", list(k.Users, word))
	m.unless(k.StepTimeout == DefaultStepTimeout, "step_timeout", duration(k.StepTimeout))
	m.unless(k.Retransmits == DefaultRetransmits, "retransmits", word(k.Retransmits))
	return m.node()
}

// A mapping is a node under construction.
type mapping yaml.Node

func block() *mapping  { return &mapping{Kind: yaml.MappingNode} }
func inline() *mapping { return &mapping{Kind: yaml.MappingNode, Style: yaml.FlowStyle} }

func (m *mapping) node() *yaml.Node { return (*yaml.Node)(m) }

func (m *mapping) add(key string, value *yaml.Node) {
	m.Content = append(m.Content, word(key), value)
}

// unless adds a key that can be left out.
func (m *mapping) unless(absent bool, key string, value *yaml.Node) {
	if !absent {
		m.add(key, value)
	}
}

// list returns the items in brackets, on one line.
func list[T any](items []T, format func(T) *yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, item := range items {
		n.Content = append(n.Content, format(item))
	}
	return n
}

// plain returns text that YAML may read as what it looks like, such as a
// number.
func plain(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// word returns text that must stay text, in quotes if it looks like anything
// else.
func word[T ~string](text T) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(string(text))
	return n
}

func number(n int) *yaml.Node { return plain(strconv.Itoa(n)) }

func duration(d time.Duration) *yaml.Node { return plain(document.FormatDuration(d)) }

func prefix(p netip.Prefix) *yaml.Node { return word(FormatNetwork(p)) }

func (p Port) format() *yaml.Node { return word(p.String()) }

// FormatNetwork returns a network as a person writes it: a single address has
// no prefix length.
func FormatNetwork(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
