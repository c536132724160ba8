package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
	"postern/internal/key"
)

// Keys says how the tokens arrive that are made with users' keys. The zero value
// is a policy without keys.
type Keys struct {
	Port  Port // a UDP port; the TCP port of the same number takes tokens as data of a SYN
	Bound Bound

	Pos Position // of the port
}

// Bound says whether a token counts that does not name its sender's address.
type Bound string

const (
	BoundOptional Bound = "optional" // a client behind NAT does not know its address
	BoundRequired Bound = "required"
)

// A User is a person whose devices have keys. The keys themselves are secrets, and
// no part of a policy.
type User struct {
	Name     string
	Devices  []string       // at least one
	Networks []netip.Prefix // only from these do the user's tokens count; empty: from anywhere
	Until    time.Time      // when the user's tokens count no more, in UTC; the zero value: never

	Pos      Position
	UntilPos Position // the zero value if there is no end
}

// AcceptsFrom reports whether a token of the user's counts that addr sent.
func (u *User) AcceptsFrom(addr netip.Addr) bool { return accepts(u.Networks, addr) }

// HasKeys reports whether any door is opened by a key.
func (p *Policy) HasKeys() bool { return p.Keys.Port != Port{} }

// IsKeyPort reports whether tokens arrive at a port.
func (p *Policy) IsKeyPort(port Port) bool {
	return p.HasKeys() && port.Number == p.Keys.Port.Number && (port.Protocol == UDP || port.Protocol == TCP)
}

// NamesKeyPort reports whether the policy names the port that tokens arrive at in
// another place, too, which none may.
func (p *Policy) NamesKeyPort() bool {
	return slices.ContainsFunc(p.Doors, func(d Door) bool {
		return slices.ContainsFunc(slices.Concat(d.Services, d.Knock.Sequence, d.Knock.Close), p.IsKeyPort)
	}) || slices.ContainsFunc(p.Allow, func(a Allow) bool { return p.allowsKeys(&a) })
}

// allowsKeys reports whether an entry opens the port that tokens arrive at.
func (p *Policy) allowsKeys(a *Allow) bool {
	return p.HasKeys() && (a.Service.Covers(p.Keys.Port) || a.Service.Covers(Port{TCP, p.Keys.Port.Number}))
}

// The years of an `until`. What is later is a mistake; in nanoseconds since 1970,
// 64 bits end in 2262.
const (
	minYear = 1970
	maxYear = 2199
)

// A userEntry is a user's place in the file.
type userEntry struct {
	key   *yaml.Node
	opens bool // some door
}

func (w *walker) readKeys(n *yaml.Node) {
	k := &w.policy.Keys
	k.Bound = DefaultBound
	w.Fields("keys", n, n, []document.Field{
		{Key: "port", Shape: document.Scalar, Example: "udp/40123", Read: func(n *yaml.Node) {
			p, f := keyPort(n.Value)
			if w.Check(n, f) {
				k.Port = p
			}
			k.Pos = document.PositionOf(n)
		}},
		{Key: "address", Shape: document.Scalar, Example: string(DefaultBound), Default: string(DefaultBound), Read: func(n *yaml.Node) {
			choose(w, n, "address", &k.Bound, BoundOptional, BoundRequired)
		}},
	})
}

// keyPort parses the port that tokens arrive at.
func keyPort(text string) (Port, *document.Fault) {
	p, f := port(text, forKeys)
	if f == nil && p.Protocol != UDP {
		f = document.NewFault(document.Quoted(text)+" is not a UDP port", forKeys.forms())
		if p.Protocol == TCP {
			f.Hint = "write " + Port{UDP, p.Number}.String()
		}
	}
	return p, f
}

func (w *walker) readUsers(n *yaml.Node) {
	for _, e := range w.Entries(n, "give one of the two users another name") {
		w.Check(e.Key, CheckName("user", e.Key.Value))
		f := document.Field{Key: "user " + document.Short(e.Key.Value), Shape: document.Mapping,
			Advice: "the user's devices under it, as in {devices: [laptop]}"}
		w.users[e.Key.Value] = &userEntry{key: e.Key}
		if w.CheckShape(e, f) {
			w.readUser(e)
		}
	}
}

func (w *walker) readUser(e document.Entry) {
	u := User{Name: e.Key.Value, Pos: document.PositionOf(e.Key)}
	w.Fields("user "+document.Short(u.Name), e.Key, e.Value, []document.Field{
		{Key: "devices", Shape: document.List, Example: "[laptop]", Read: func(n *yaml.Node) {
			seen := map[string]bool{}
			for _, c := range w.Scalars(n, "a device", "[laptop, phone]") {
				if w.Check(c, CheckName("device", c.Value)) && once(w, c, seen, c.Value, "device "+c.Value) {
					u.Devices = append(u.Devices, c.Value)
				}
			}
		}},
		{Key: "networks", Shape: document.ScalarOrList, Example: "[203.0.113.0/24]", Default: "everywhere", Read: func(n *yaml.Node) {
			seen := map[netip.Prefix]bool{}
			for _, c := range w.Scalars(n, "a network", "192.0.2.0/24") {
				p, f := network(c.Value)
				if w.Check(c, f) && once(w, c, seen, p, "network "+p.String()) {
					u.Networks = append(u.Networks, p)
				}
			}
		}},
		{Key: "until", Shape: document.Scalar, Example: "2027-06-30", Default: "for ever", Read: func(n *yaml.Node) {
			u.UntilPos = document.PositionOf(n)
			end, f := ParseUntil(n.Value)
			w.Check(n, f)
			u.Until = end
		}},
	})
	w.policy.Users = append(w.policy.Users, u)
}

// ParseUntil parses the end of a user's time: a day, to whose end in UTC it lasts,
// or a time as in RFC 3339. It returns the first moment after it, in UTC.
func ParseUntil(text string) (time.Time, *document.Fault) {
	end, err := time.Parse(time.DateOnly, text)
	if err == nil {
		end = end.AddDate(0, 0, 1)
	} else {
		end, err = time.Parse(time.RFC3339, text)
		end = end.UTC()
	}
	year := end.Add(-1).Year()
	switch {
	case err != nil:
		return time.Time{}, document.NewFault("until cannot be "+document.Quoted(text), "write a day, as in 2027-06-30, or a time, as in 2027-06-30T18:00:00Z")
	case end.Nanosecond() != 0:
		return time.Time{}, document.NewFault("until cannot be "+document.Quoted(text)+", which is a part of a second", "write "+end.Truncate(time.Second).Format(time.RFC3339))
	case year < minYear || year > maxYear:
		return time.Time{}, document.NewFault("until cannot be "+document.Quoted(text), "leave it out to mean for ever")
	}
	return end, nil
}

// FormatUntil returns the text that ParseUntil reads as the time: a day, if it lasts
// to the end of one.
func FormatUntil(end time.Time) string {
	if last := end.Add(-time.Second); last.Truncate(24*time.Hour) != end.Truncate(24*time.Hour) {
		return last.Format(time.DateOnly)
	}
	return end.Format(time.RFC3339)
}

func (w *walker) readKeyList(k *Knock, at *doorEntry, n *yaml.Node) {
	k.UsersPos = document.PositionOf(n)
	seen := map[string]bool{}
	for _, c := range w.Scalars(n, "a user", "the name of a user, as in [alice]") {
		if w.Check(c, CheckName("user", c.Value)) && once(w, c, seen, c.Value, "user "+c.Value) {
			k.Users = append(k.Users, c.Value)
			at.users = append(at.users, c)
		}
	}
}

// maxSuggestions is for how many unknown names the nearest known one is sought: a
// policy may have ten thousand of each.
const maxSuggestions = 20

// people checks that the users, the doors' key lists and the port of keys go
// together.
func (w *walker) people() {
	sound := true // all doors: otherwise one may be meant for whoever opens none
	for i := range w.doors {
		sound = sound && w.doors[i].sound
	}
	w.listed()
	for i := range w.policy.Users {
		if u := w.users[w.policy.Users[i].Name]; sound && !u.opens {
			w.Fail(u.key, "user "+document.Short(u.key.Value)+" opens no door", "add the name to the \"key\" list of a door's knock, or remove the user")
		}
	}
	keyed := slices.IndexFunc(w.doors, func(d doorEntry) bool { return len(d.users) > 0 })
	switch {
	case keyed >= 0 && w.keys == nil:
		w.Fail(w.doors[keyed].entries["key"].Key, "a door is opened by keys, and the policy does not say where they arrive",
			"add \"keys: {port: udp/PORT}\" at the top of the file")
	case keyed < 0 && w.keys != nil && sound:
		w.Fail(w.keys, "keys has no meaning without a door that a key opens", "remove it, or write \"key: [NAME]\" under a door's knock")
	}
	w.keyPortTaken()
	w.doorNumbers()
}

// listed finds names in the doors' key lists that are no user's.
func (w *walker) listed() {
	var names []string
	for i := range w.policy.Users {
		names = append(names, w.policy.Users[i].Name)
	}
	unknown := 0
	for i := range w.doors {
		for _, n := range w.doors[i].users {
			if u := w.users[n.Value]; u != nil {
				u.opens = true
				continue
			}
			hint := fmt.Sprintf("add \"%s: {devices: [DEVICE]}\" under \"users:\"", n.Value)
			if unknown++; unknown <= maxSuggestions {
				if near := document.Nearest(n.Value, names); near != "" {
					hint = "did you mean " + near + "?"
				}
			}
			w.Fail(n, "there is no user "+n.Value, hint)
		}
	}
}

// doorNumbers finds doors that a token cannot tell apart. Of two names, one in four
// thousand million is such.
func (w *walker) doorNumbers() {
	first := map[key.Door]int{}
	for i := range w.doors {
		if len(w.doors[i].users) == 0 {
			continue
		}
		id := key.DoorID(w.policy.Doors[i].Name)
		if other, there := first[id]; there {
			w.Fail(w.doors[i].name, "a token for this door would be one for "+w.doorRef(other), "give one of the two doors another name")
			continue
		}
		first[id] = i
	}
}

// keyPortTaken finds other uses of the port that tokens arrive at. They would be
// judged as tokens, or be answered otherwise than other ports.
func (w *walker) keyPortTaken() {
	k := &w.policy.Keys
	if !w.policy.HasKeys() {
		return
	}
	fail := func(n *yaml.Node, what string) {
		w.Fail(n, fmt.Sprintf("%s the port that keys arrive at (line %d)", what, k.Pos.Line), "choose another port for one of them")
	}
	for i := range w.doors {
		for j, p := range w.policy.Doors[i].Services {
			if w.policy.IsKeyPort(p) {
				fail(w.doors[i].services[j], "this service is")
			}
		}
		knock := &w.policy.Doors[i].Knock
		for j, n := range w.doors[i].knocks {
			if w.policy.IsKeyPort(knock.Sequence[j]) {
				fail(n, "this knock is")
			}
		}
		for j, n := range w.doors[i].closing {
			if w.policy.IsKeyPort(knock.Close[j]) {
				fail(n, "this knock is")
			}
		}
	}
	for i := range w.policy.Allow {
		if w.policy.allowsKeys(&w.policy.Allow[i]) {
			fail(w.allowed[i], "this entry allows")
		}
	}
}
