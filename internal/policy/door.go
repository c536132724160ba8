package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

// A doorEntry is a door's place in the file.
type doorEntry struct {
	name     *yaml.Node
	entries  map[string]document.Entry // of the door and of its knock, which share no key
	listed   int                       // how many services are in the file, valid or not
	services []*yaml.Node              // of each of the door's services
	knocks   []*yaml.Node              // of each knock; empty if one is invalid
	closing  []*yaml.Node              // of each knock that closes the door; the same
	users    []*yaml.Node              // of each of the knock's users
	sound    bool                      // the door is valid by itself
}

// maxName is the length of the longest name of a door, a user or a device.
const maxName = 32

func (w *walker) readDoors(n *yaml.Node) {
	for _, e := range w.Entries(n, "give one of the two doors another name") {
		before := w.ErrorCount()
		w.Check(e.Key, CheckName("door", e.Key.Value))
		f := document.Field{Key: "door " + document.Short(e.Key.Value), Shape: document.Mapping,
			Advice: "its service and its knock under it, as in {service: tcp/22, knock: {sequence: [PORT, PORT, PORT]}}"}
		if !w.CheckShape(e, f) {
			continue
		}
		w.readDoor(e)
		w.doors[len(w.doors)-1].sound = w.ErrorCount() == before
	}
}

// sampleName is a name of each kind of thing, as a file has it.
var sampleName = map[string]string{"door": "\"ssh:\"", "user": "alice", "device": "laptop"}

// CheckName returns what is wrong with the name of a door, a user or a device, or
// nil. Names stand in rules, log lines, links and shells.
func CheckName(kind, text string) *document.Fault {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
	rest := func(r rune) bool { return letter(r) || r >= '0' && r <= '9' || r == '-' || r == '_' }
	named := kind + " name " + document.Quoted(text)
	switch {
	case text == "":
		return document.NewFault("a "+kind+" has no name", "write a name, as in "+sampleName[kind])
	case utf8.RuneCountInString(text) > maxName:
		return document.NewFault(fmt.Sprintf("%s is longer than %d characters", named, maxName), "give the "+kind+" a shorter name")
	case !letter(rune(text[0])):
		return document.NewFault(named+" does not begin with a letter", "begin with a letter from a to z, as in "+sampleName[kind])
	case strings.IndexFunc(text, func(r rune) bool { return !rest(r) }) >= 0:
		return document.NewFault(named+" has a character that names cannot have", "use only letters, digits, - and _")
	}
	return nil
}

func (w *walker) readDoor(e document.Entry) {
	d := NewDoor(e.Key.Value)
	d.Pos = document.PositionOf(e.Key)
	at := doorEntry{name: e.Key}
	owner := "door " + document.Short(d.Name)
	var knock, from *yaml.Node // read last: they depend on the other keys
	at.entries = w.Fields(owner, e.Key, e.Value, []document.Field{
		{Key: "service", Shape: document.ScalarOrList, Example: "tcp/22", Read: func(n *yaml.Node) { w.readServices(&d, &at, n) }},
		{Key: "address", Shape: document.Scalar, Example: "192.0.2.1", Default: "every address", Read: func(n *yaml.Node) {
			if n.Value == "" { // means the same as leaving it out
				return
			}
			var f *document.Fault
			if d.Address, f = address(n.Value); f != nil && unspecified(n.Value) {
				f.Hint = "leave it out to mean every address"
			}
			w.Check(n, f)
		}},
		{Key: "knock", Shape: document.Mapping, Example: "{sequence: [PORT, PORT, PORT]}", Read: func(n *yaml.Node) { knock = n }},
		{Key: "open_for", Shape: document.Scalar, Example: document.FormatDuration(DefaultOpenFor), Default: document.FormatDuration(DefaultOpenFor), Read: func(n *yaml.Node) {
			d.OpenForPos = document.PositionOf(n)
			w.duration(n, "open_for", &d.OpenFor, MinTime, MaxOpenFor)
		}},
		{Key: "admit", Shape: document.Scalar, Example: string(DefaultAdmit), Default: string(DefaultAdmit), Read: func(n *yaml.Node) {
			choose(w, n, "admit", &d.Admit, AdmitOne, AdmitAny)
		}},
		{Key: "forfeit", Shape: document.Scalar, Example: "true", Default: "false", Read: func(n *yaml.Node) {
			w.flag(n, "forfeit", &d.Forfeit)
		}},
		{Key: "on_close", Shape: document.Scalar, Example: string(OnCloseCut), Default: string(DefaultOnClose), Read: func(n *yaml.Node) {
			choose(w, n, "on_close", &d.OnClose, OnCloseKeep, OnCloseCut)
			d.OnClosePos = document.PositionOf(n)
		}},
		{Key: "forward", Shape: document.Scalar, Example: "192.168.1.50:443", Default: "this host", Read: func(n *yaml.Node) {
			var f *document.Fault
			d.Forward, f = endpoint(n.Value)
			w.Check(n, f)
		}},
		{Key: "masquerade", Shape: document.Scalar, Example: "true", Default: "false", Read: func(n *yaml.Node) {
			w.flag(n, "masquerade", &d.Masquerade)
		}},
		{Key: "from", Shape: document.ScalarOrList, Example: "[203.0.113.0/24]", Default: "everyone", Read: func(n *yaml.Node) { from = n }},
	})
	if knock != nil {
		maps.Copy(at.entries, w.readKnock(&d, &at, at.entries["knock"].Key, knock))
	}
	if from != nil {
		w.readFrom(&d, from)
	}
	w.checkForward(&d, &at)
	if e, there := at.entries["on_close"]; there && knock != nil && !at.has("close") && !at.has("key") {
		w.Fail(e.Key, "on_close has no meaning where nothing closes the door", "remove it, or add a close to knock, as in \"close: [PORT, PORT, PORT]\"")
	}
	w.policy.Doors = append(w.policy.Doors, d)
	w.doors = append(w.doors, at)
}

// has reports whether the door or its knock is written with a key.
func (at *doorEntry) has(key string) bool {
	_, there := at.entries[key]
	return there
}

func (w *walker) readServices(d *Door, at *doorEntry, n *yaml.Node) {
	at.listed = len(w.Items(n))
	seen := map[Port]bool{}
	for _, c := range w.Scalars(n, "a service", "tcp/22") {
		p, f := port(c.Value, forDoor)
		if !w.Check(c, f) || !once(w, c, seen, p, "service "+p.String()) {
			continue
		}
		d.Services = append(d.Services, p)
		at.services = append(at.services, c)
	}
}

// checkForward checks a door's forward against its other keys.
func (w *walker) checkForward(d *Door, at *doorEntry) {
	if d.Masquerade && at.entries["forward"].Key == nil {
		w.Fail(at.entries["masquerade"].Key, "masquerade has no meaning without a forward",
			"remove it, or add a forward, as in \"forward: 192.168.1.50:443\"")
	}
	if !d.Forward.IsValid() {
		return
	}
	n := at.entries["forward"].Value
	if at.listed > 1 {
		w.Fail(n, fmt.Sprintf("a forward has one service, and this door has %d", at.listed),
			"make a door with a sequence of its own for each service")
	}
	if d.Address.IsValid() && d.Address.Is4() != d.Forward.Addr().Is4() {
		w.Fail(n, fmt.Sprintf("the door's address is %s, and its forward is %s", family(d.Address), family(d.Forward.Addr())),
			"give both addresses of one family")
	}
}

func (w *walker) readFrom(d *Door, n *yaml.Node) {
	seen := map[netip.Prefix]bool{}
	for _, c := range w.Scalars(n, "a network", "192.0.2.0/24") {
		p, f := network(c.Value)
		if f == nil && !d.HasFamilyOf(p.Addr()) {
			other, what := d.Address, "address"
			if d.Forward.IsValid() {
				other, what = d.Forward.Addr(), "forward"
			}
			f = document.NewFault(
				fmt.Sprintf("network %s is %s, and the door's %s is %s", document.Quoted(c.Value), family(p.Addr()), what, family(other)),
				"remove it: nobody there can reach this door",
			)
		}
		if !w.Check(c, f) || !once(w, c, seen, p, "network "+p.String()) {
			continue
		}
		d.From = append(d.From, p)
	}
}
