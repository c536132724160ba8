package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// A doorEntry is where a door stands in the file.
type doorEntry struct {
	entries  map[string]entry // of the door and of its knock: no key is in both
	listed   int              // the services in the file, right or wrong
	services []*yaml.Node     // of each of the door's services
	knocks   []*yaml.Node     // of each knock of a sequence that is whole; else empty
	sound    bool             // nothing is wrong with the door by itself
}

const maxDoorName = 32

func (w *walker) readDoors(n *yaml.Node) {
	for _, e := range w.entries(n, "give one of the two doors another name") {
		before := len(w.found)
		w.check(e.key, doorName(e.key.Value))
		f := field{key: "door " + short(e.key.Value), shape: mapping,
			advice: "its service and its knock under it, as in {service: tcp/22, knock: {sequence: [PORT, PORT, PORT]}}"}
		if !w.shaped(e, f) {
			continue
		}
		w.readDoor(e)
		w.doors[len(w.doors)-1].sound = len(w.found) == before
	}
}

func doorName(text string) *fault {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
	rest := func(r rune) bool { return letter(r) || r >= '0' && r <= '9' || r == '-' || r == '_' }
	switch {
	case text == "":
		return &fault{"a door has no name", "write a name, as in \"ssh:\""}
	case len(text) > maxDoorName:
		return &fault{fmt.Sprintf("door name %s is longer than %d characters", quoted(text), maxDoorName), "give the door a shorter name"}
	case !letter(rune(text[0])):
		return &fault{fmt.Sprintf("door name %s does not begin with a letter", quoted(text)), "begin with one of a to z, as in \"ssh:\""}
	case strings.IndexFunc(text, func(r rune) bool { return !rest(r) }) >= 0:
		return &fault{fmt.Sprintf("door name %s has a character that no name has", quoted(text)), "use only letters, digits, - and _"}
	}
	return nil
}

func (w *walker) readDoor(e entry) {
	d := Door{
		Name:    e.key.Value,
		Knock:   Knock{StepTimeout: 3 * time.Second, Retransmits: RetransmitsIgnore},
		OpenFor: 10 * time.Second,
		Admit:   AdmitOne,
		Pos:     place(e.key),
	}
	var at doorEntry
	owner := "door " + short(d.Name)
	var knock, from *yaml.Node // read last: they need what the others say
	at.entries = w.fields(owner, e.key, e.value, []field{
		{key: "service", shape: wordOrList, example: "tcp/22", read: func(n *yaml.Node) { w.readServices(&d, &at, n) }},
		{key: "address", shape: word, example: "192.0.2.1", absent: "every address", read: func(n *yaml.Node) {
			if n.Value == "" { // as much as to leave it out
				return
			}
			var f *fault
			if d.Address, f = address(n.Value); f != nil && unspecified(n.Value) {
				f.hint = "leave it out to mean every address"
			}
			w.check(n, f)
		}},
		{key: "knock", shape: mapping, example: "{sequence: [PORT, PORT, PORT]}", read: func(n *yaml.Node) { knock = n }},
		{key: "open_for", shape: word, example: "10s", absent: "10s", read: func(n *yaml.Node) {
			d.OpenForPos = place(n)
			w.duration(n, "open_for", &d.OpenFor, 100*time.Millisecond, 24*time.Hour)
		}},
		{key: "admit", shape: word, example: "one", absent: "one", read: func(n *yaml.Node) {
			choose(w, n, "admit", &d.Admit, AdmitOne, AdmitAny)
		}},
		{key: "forfeit", shape: word, example: "true", absent: "false", read: func(n *yaml.Node) {
			w.flag(n, "forfeit", &d.Forfeit)
		}},
		{key: "forward", shape: word, example: "192.168.1.50:443", absent: "this host", read: func(n *yaml.Node) {
			var f *fault
			d.Forward, f = endpoint(n.Value)
			w.check(n, f)
		}},
		{key: "masquerade", shape: word, example: "true", absent: "false", read: func(n *yaml.Node) {
			w.flag(n, "masquerade", &d.Masquerade)
		}},
		{key: "from", shape: wordOrList, example: "[203.0.113.0/24]", absent: "everyone", read: func(n *yaml.Node) { from = n }},
	})
	if knock != nil {
		maps.Copy(at.entries, w.readKnock(&d, &at, at.entries["knock"].key, knock))
	}
	if from != nil {
		w.readFrom(&d, from)
	}
	w.checkForward(&d, &at)
	w.policy.Doors = append(w.policy.Doors, d)
	w.doors = append(w.doors, at)
}

func (w *walker) readServices(d *Door, at *doorEntry, n *yaml.Node) {
	at.listed = len(w.items(n))
	seen := map[Port]bool{}
	for _, c := range w.words(n, "a service", "tcp/22") {
		p, f := port(c.Value, forDoor)
		if !w.check(c, f) || !once(w, c, seen, p, "service "+p.String()) {
			continue
		}
		d.Services = append(d.Services, p)
		at.services = append(at.services, c)
	}
}

// checkForward checks a door's forward against the rest of the door.
func (w *walker) checkForward(d *Door, at *doorEntry) {
	if d.Masquerade && at.entries["forward"].key == nil {
		w.fail(at.entries["masquerade"].key, "masquerade has no meaning without a forward",
			"remove it, or add a forward, as in \"forward: 192.168.1.50:443\"")
	}
	if !d.Forward.IsValid() {
		return
	}
	n := at.entries["forward"].value
	if at.listed > 1 {
		w.fail(n, fmt.Sprintf("a forward has one service, and this door has %d", at.listed),
			"make a door with a sequence of its own for each service")
	}
	if d.Address.IsValid() && d.Address.Is4() != d.Forward.Addr().Is4() {
		w.fail(n, fmt.Sprintf("the door's address is %s, and its forward is %s", family(d.Address), family(d.Forward.Addr())),
			"give both addresses of one family")
	}
}

func (w *walker) readFrom(d *Door, n *yaml.Node) {
	seen := map[netip.Prefix]bool{}
	for _, c := range w.words(n, "a network", "192.0.2.0/24") {
		p, f := network(c.Value)
		if f == nil && !d.Serves(p.Addr()) {
			other, what := d.Address, "address"
			if d.Forward.IsValid() {
				other, what = d.Forward.Addr(), "forward"
			}
			f = &fault{
				fmt.Sprintf("network %s is %s, and the door's %s is %s", quoted(c.Value), family(p.Addr()), what, family(other)),
				"remove it: nobody there can reach this door",
			}
		}
		if !w.check(c, f) || !once(w, c, seen, p, "network "+p.String()) {
			continue
		}
		d.From = append(d.From, p)
	}
}
