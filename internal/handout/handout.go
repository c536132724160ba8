// Package handout writes what the owner of a policy gives to others: scripts
// that knock without Postern installed, and the list of ports that a home
// router must forward.
//
// Everything here is a pure function of the policy. What a script cannot do is
// an error when the script is written, not when it runs.
package handout

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/document"
	"postern/internal/policy"
)

// An UnsupportedError reports that no script can open a door.
type UnsupportedError struct {
	Message string // names the door and the key
	Hint    string // what to write instead
}

func (e *UnsupportedError) Error() string { return e.Message }

// least is the time that a script needs from one knock to the next, and from
// the last one to the connection. It starts a program for each knock and kills
// it after 0.3 s.
const least = time.Second

// A client is the data of the script templates.
type client struct {
	Door   string
	Knocks []policy.Port
	TCP    bool // one of the knocks is TCP
	UDP    bool
	Echo   bool

	Host   string // the door's address, or empty
	Family string // "-4" or "-6" if only one family can be used
	From   string // the networks that may knock; empty: all

	RunsSSH  bool   // by default, without an option
	Port     uint16 // the port for ssh, if an option asks for it
	Services string // the door's services
	OpenFor  string
}

// CanRunSSH reports whether the script can run ssh at all.
func (c *client) CanRunSSH() bool { return c.RunsSSH || c.Port != 0 }

func newClient(d *policy.Door) (*client, error) {
	if len(d.Knock.Sequence) == 0 {
		return nil, &UnsupportedError{
			Message: fmt.Sprintf("door %q is opened by keys alone, and a script has none", d.Name),
			Hint:    "use postern on the client, or give the door a sequence, too",
		}
	}
	for _, t := range []struct {
		key  string
		time time.Duration
	}{{"step_timeout", d.Knock.StepTimeout}, {"open_for", d.OpenFor}} {
		if t.time < least {
			return nil, &UnsupportedError{
				Message: fmt.Sprintf("%s: %v of door %q leaves a script too little time", t.key, t.time, d.Name),
				Hint:    fmt.Sprintf("make it %v or more, or knock with postern itself", least),
			}
		}
	}
	c := &client{Door: d.Name, Knocks: d.Knock.Sequence, Family: family(d), OpenFor: document.FormatDuration(d.OpenFor)}
	for _, k := range c.Knocks {
		switch k.Protocol {
		case policy.TCP:
			c.TCP = true
		case policy.UDP:
			c.UDP = true
		case policy.ICMP:
			c.Echo = true
		}
	}
	if d.Address.IsValid() {
		c.Host = d.Address.String()
	}
	var from []string
	for _, p := range d.From {
		from = append(from, policy.FormatNetwork(p))
	}
	c.From = strings.Join(from, ", ")
	c.Services = list(d.Services)
	c.RunsSSH, c.Port = forSSH(d)
	return c, nil
}

// forSSH decides when a script runs ssh. It does by default if the door has
// ssh's own port. Any other single port may be something else, such as a web
// page, so it takes an option; with several, none is more likely than another.
func forSSH(d *policy.Door) (runs bool, port uint16) {
	const own = 22
	var tcp []uint16
	for _, s := range d.Services {
		if s.Protocol == policy.TCP {
			tcp = append(tcp, s.Number)
		}
	}
	switch {
	case slices.Contains(tcp, own):
		return true, 0 // ssh's own configuration sets the port, for example behind a router
	case len(tcp) == 1:
		return false, tcp[0]
	}
	return false, 0
}

// family returns the option for the only family in which anyone can open the
// door, or "" if both can be used.
func family(d *policy.Door) string {
	opens := func(any netip.Addr) bool {
		from := func(p netip.Prefix) bool { return p.Addr().Is4() == any.Is4() }
		return d.HasFamilyOf(any) && (len(d.From) == 0 || slices.ContainsFunc(d.From, from))
	}
	in4, in6 := opens(netip.IPv4Unspecified()), opens(netip.IPv6Unspecified())
	switch {
	case in4 && !in6:
		return "-4"
	case in6 && !in4:
		return "-6"
	}
	return ""
}

func list[T fmt.Stringer](all []T) string {
	var words []string
	for _, one := range all {
		words = append(words, one.String())
	}
	return strings.Join(words, ", ")
}
