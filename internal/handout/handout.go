// Package handout writes what the owner of a policy gives to others: scripts
// that knock where Postern is not installed, and the list of ports that a home
// router must forward.
//
// Everything here is a pure function of the policy. What a script cannot do is
// an error when it is written, not a surprise to whoever runs it.
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

// An UnsupportedError says that a door leaves a script no way to come in.
type UnsupportedError struct {
	Message string // names the door and the key
	Hint    string // what to write instead
}

func (e *UnsupportedError) Error() string { return e.Message }

// least is the time that a script needs from one knock to the next, and from the
// last one to the connection. It starts a program for each knock, and does not
// stop it before 0.3 s have passed.
const least = time.Second

// A client is what the templates of the scripts know.
type client struct {
	Door   string
	Knocks []policy.Port
	TCP    bool // among the knocks
	UDP    bool
	Echo   bool

	Host   string // the door's address, if it has one
	Family string // "-4" or "-6" where only one can be used
	From   string // the networks that may knock, if not all

	RunsSSH  bool   // whether it is asked to or not
	Port     uint16 // where it runs ssh if it is asked to
	Services string // what the door hides
	OpenFor  string
}

// CanRunSSH tells whether the script can run ssh at all.
func (c *client) CanRunSSH() bool { return c.RunsSSH || c.Port != 0 }

func newClient(d *policy.Door) (*client, error) {
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

// forSSH chooses when a script runs ssh. It does if the door has ssh's own port.
// Another port may be anything, a web page just as well, so there it must be asked
// to; and of several, none is more likely than the next.
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
		return true, 0 // ssh's configuration may know better, behind a router
	case len(tcp) == 1:
		return false, tcp[0]
	}
	return false, 0
}

// family is the option for the only family in which the door opens for anybody,
// and empty if it does in both.
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
